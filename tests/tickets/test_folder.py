"""A ticket's folder: whole, small, and refused where it was damaged or lies."""

import hashlib
import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lottery_ticket import InputError, LotteryTicketError, Ticket
from lottery_ticket.data.sources import load_images
from lottery_ticket.tickets.files import read_tensors, write_tensors
from lottery_ticket.tickets.folder import CARD, SCHEMA_VERSION, TENSORS, card_digest
from tests.help.tensors import same


@pytest.fixture
def pulled(ticket, tmp_path):
    """A folder with a trained ticket."""
    return ticket.save(tmp_path / "pulled")


def test_a_folder_holds_the_whole_ticket(ticket, pulled):
    loaded = Ticket.load(pulled)
    for part in ("mask", "weights", "trained"):
        assert same(getattr(loaded, part), getattr(ticket, part))
    assert (loaded.settings, loaded.data, loaded.origin, loaded.metrics) == (
        ticket.settings, ticket.data, ticket.origin, ticket.metrics
    )  # fmt: skip
    assert {path.name for path in pulled.iterdir()} == {CARD, TENSORS}
    assert [path.name for path in pulled.parent.iterdir()] == ["pulled"]
    assert Ticket.load(pulled, trained=False).trained is None
    assert pulled.stat().st_mode & 0o777 == 0o755
    card = json.loads((pulled / CARD).read_text())
    assert (card["schema_version"], card["architecture"]["model"], card["dataset"]["digest"]) == (
        1, "fc1", load_images(ticket.settings.dataset).digest
    )  # fmt: skip


def resigned(folder, change_card=None, tensors=None):
    """Change a ticket's folder and make its checksums fit again, as an attacker would."""
    if tensors is not None:
        tensors(folder / TENSORS)
    told = json.loads((folder / CARD).read_text())
    raw = (folder / TENSORS).read_bytes()
    told["files"][TENSORS] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    if change_card:
        change_card(told)
    told["sha256"] = card_digest(told)
    (folder / CARD).write_text(json.dumps(told))


def rewritten(change):
    """Write the tensors again after `change` has had its way with them."""

    def write(path):
        tensors = read_tensors(path)
        masks = {name: f"mask:{name.split(':')[1]}" for name in tensors if f"mask:{name.split(':')[1]}" in tensors}
        masks = {name: mask for name, mask in masks.items() if not name.startswith("mask:")}
        change(tensors, masks)
        write_tensors(path, tensors, masks)

    return write


def wrong_shape(tensors, masks):
    tensors["start:fc2.bias"] = torch.zeros(7)


def not_finite(tensors, masks):
    tensors["start:fc2.bias"][3] = torch.nan


def path_as_name(tensors, masks):
    tensors["start:../../evil"] = torch.zeros(3)


def lacking(tensors, masks):
    del tensors["start:fc2.bias"]


def grown(tensors, masks):
    del masks["start:fc1.weight"]
    tensors["start:fc1.weight"] = torch.ones(300, 784)


def no_survivors(tensors, masks):
    for name in ("mask:output.weight", "start:output.weight", "trained:output.weight"):
        tensors[name] = torch.zeros_like(tensors[name])


def float_mask(tensors, masks):
    tensors["mask:fc2.weight"] = tensors["mask:fc2.weight"].float()
    masks.clear()


LIES = {
    "wrong shape": ({"tensors": rewritten(wrong_shape)}, r"start:fc2\.bias of shape \(7,\), not \(100,\)"),
    "not finite": ({"tensors": rewritten(not_finite)}, r"start:fc2\.bias that are not finite"),
    "a path as a name": ({"tensors": rewritten(path_as_name)}, r"a tensor named 'start:\.\./\.\./evil'"),
    "a tensor missing": ({"tensors": rewritten(lacking)}, r"other start tensors than ticket\.json names"),
    "pruned weights": ({"tensors": rewritten(grown)}, r"pruned weights in start:fc1\.weight"),
    "no survivors": ({"tensors": rewritten(no_survivors)}, r"a mask of output\.weight without survivors"),
    "mask of numbers": ({"tensors": rewritten(float_mask)}, "of shape"),
    "a pickle": ({"tensors": lambda path: path.write_bytes(pickle.dumps({"mask": 1}))}, "is damaged"),
    "foreign": ({"tensors": lambda path: save_file({"w": torch.zeros(3)}, path)}, "is damaged"),
    "newer schema": (
        {"change_card": lambda told: told.update(schema_version=SCHEMA_VERSION + 1)},
        r"schema version 2, newer than this lt, which reads 1",
    ),
    "no schema": ({"change_card": lambda told: told.pop("schema_version")}, "names no schema version"),
    "unknown key": ({"change_card": lambda told: told.update(run="rm -rf")}, "run: Extra inputs are not permitted"),
    "lr below 0": ({"change_card": lambda told: told["settings"].update(lr=-1)}, r"settings\.lr"),
    "huge shape": (
        {"change_card": lambda told: told["architecture"]["tensors"]["fc1.weight"].update(shape=[2**40, 2**40])},
        "of shape",
    ),
    "other sizes": (
        {"change_card": lambda told: told["dataset"].update(image_shape=[60000, 60000])},
        "architecture is not that of its settings and data set",
    ),
    "a terminal's title": (
        {"change_card": lambda told: told["origin"].update(arm="\x1b]0;evil\x07")},
        r"do not print, in '\\x1b\]0;evil\\x07'",
    ),
    "seven means": (
        {"change_card": lambda told: told["dataset"].update(mean=[0.0] * 7, std=[1.0] * 7)},
        r"mean and std are not those of 1 channel",
    ),
    "schema as text": ({"change_card": lambda told: told.update(schema_version="1")}, "names no schema version"),
    "schema below 1": ({"change_card": lambda told: told.update(schema_version=-3)}, "names no schema version"),
    "unknown key in a part": (
        {"change_card": lambda told: told["dataset"].update(evil=1)},
        r"dataset\.evil: Extra inputs are not permitted",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_folder_that_lies_is_refused(pulled, lie):
    changes, why = LIES[lie]
    resigned(pulled, **changes)
    with pytest.raises(InputError, match=why):
        Ticket.load(pulled)


def damaged(folder, file, change):
    raw = (folder / file).read_bytes()
    (folder / file).write_bytes(change(raw))


@pytest.mark.parametrize(
    ("file", "change", "why"),
    [
        (TENSORS, lambda raw: raw[:-100], "bytes, not"),
        (TENSORS, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "another SHA-256"),
        (CARD, lambda raw: raw[:-100], r"ticket\.json that is not valid"),
        (CARD, lambda raw: raw.replace(b'"arm": "winning"', b'"arm": "reinit"'), "was changed"),
        (CARD, lambda raw: b"[" * 100_000, "not valid"),
        (CARD, lambda raw: b"\xff\xfe", "not valid"),
        (CARD, lambda raw: raw + b" " * 2**24, "over 16,777,216 bytes"),
    ],
)
def test_a_damaged_folder_is_refused(pulled, file, change, why):
    damaged(pulled, file, change)
    with pytest.raises(InputError, match=why):
        Ticket.load(pulled)


def test_no_flipped_bit_of_a_card_passes(pulled):
    """White space apart, every flipped bit of the card is noticed."""
    raw = (pulled / CARD).read_bytes()
    told = Ticket.load(pulled)
    for at in range(0, len(raw), 17):
        (pulled / CARD).write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        try:
            loaded = Ticket.load(pulled)
        except InputError:
            continue
        assert raw[at : at + 1].isspace()
        assert (loaded.settings, loaded.data, loaded.origin) == (told.settings, told.data, told.origin)


def test_links_and_files_are_no_tickets(pulled, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / TENSORS).symlink_to(pulled / TENSORS)
    shutil.copy(pulled / CARD, linked)
    for path, why in (
        (linked, "no file ticket.safetensors"),
        (pulled / CARD, "is no folder"),
        ("nowhere", "no folder"),
    ):
        with pytest.raises(InputError, match=why):
            Ticket.load(path)


def test_saving_is_all_or_nothing(ticket, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="is there already"):
        ticket.save(tmp_path / "there")
    monkeypatch.setattr("lottery_ticket.tickets.folder.card_digest", lambda told: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ticket.save(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    (tmp_path / "file").touch()
    with pytest.raises(LotteryTicketError, match="cannot be written"):
        ticket.save(tmp_path / "file" / "new")
    with pytest.raises(InputError, match=r"DEST: .* is no path"):
        ticket.save(tmp_path / ("x" * 300))
    ticket.weights["fc1.bias"][0] = torch.nan
    with pytest.raises(LotteryTicketError, match=r"values in start:fc1\.bias that are not finite"):
        ticket.save(tmp_path / "nan")
    assert {path.name for path in tmp_path.iterdir()} == {"there", "file"}


def test_the_tensors_are_plain_safetensors_and_small(ticket, pulled):
    survivors = sum(int(kept.sum()) for kept in ticket.mask.values())
    assert "mask:fc1.weight" in load_file(pulled / TENSORS)
    assert (pulled / TENSORS).stat().st_size < 266_200 / 8 + 4 * 2 * survivors
