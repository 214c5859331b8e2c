"""Tickets: pulled, checked, loaded, held, converted; listed from a real store."""

import contextlib
import gc
import hashlib
import json
import os
import pickle
import re
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils import prune as torch_prune
from torch.optim.optimizer import _global_optimizer_post_hooks

import lottery_ticket
from lottery_ticket import InputError, LotteryTicketError, Ticket
from lottery_ticket.address import without_credentials
from lottery_ticket.data.prepared import channels_first
from lottery_ticket.data.sources import load_images
from lottery_ticket.method.arms import ARMS
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.record import pack_bits
from lottery_ticket.store.find import find
from lottery_ticket.store.listing import _read_sqlite, _read_store, list_tickets
from lottery_ticket.store.reading import read_run
from lottery_ticket.tickets.files import load_weights, read_tensors, save_weights, write_tensors
from lottery_ticket.tickets.folder import CARD, SCHEMA_VERSION, TENSORS, card_digest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with a store."""
    return tmp_path_factory.mktemp("tickets")


@pytest.fixture(scope="module")
def found(folder, small_npz):
    """A run of all arms, rewound so late that tickets are far better than reinit, in `folder`, and its settings."""
    settings = lottery_ticket.load_preset(
        dataset=str(small_npz),
        validation_size=200,
        rounds=4,
        iterations=40,
        arms=tuple(ARMS),
        seeds="0,3",
        rewind_iteration=35,
        verdict_tolerance=0.3,
        verdict_level=0.51,
    )
    return lottery_ticket.run(settings, tracking_uri=f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(scope="module")
def rounds(found, small):
    """What the method yields for that run's settings: (arm, seed, round) → Round."""
    settings = found.stored.settings
    network = make_network(settings, small.input_shape, small.classes)
    done = [each for rounds in find_tickets(settings, network, small) for each in rounds]
    return {(each.record.arm, each.record.seed, each.record.round): each for each in done}


@pytest.fixture
def store(found):
    return found.client.tracking_uri


@pytest.fixture
def ticket(found, store):
    return Ticket.load(f"runs:/{found.run_id}:3", tracking_uri=store)


@pytest.fixture
def pulled(ticket, tmp_path):
    """A folder with a trained ticket."""
    return ticket.save(tmp_path / "pulled")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("seed", [0, 3])
def test_a_ticket_is_the_mask_and_the_values_its_round_started_from(found, store, rounds, arm, seed):
    ticket = find(f"{found.run_id}:2:{arm}-seed{seed}", tracking_uri=store, trained=True)
    there = rounds[arm, seed, 2]
    assert same(ticket.mask, there.mask)
    start = {name: value * there.mask.get(name, 1) for name, value in there.start.items()}
    assert same(ticket.weights, start)
    assert same(ticket.trained, {name: value.bfloat16().float() for name, value in there.weights.items()})
    assert (ticket.origin.arm, ticket.origin.seed, ticket.origin.round) == (arm, seed, 2)
    assert ticket.metrics.test_accuracy == pytest.approx(there.record.test_accuracy)
    assert ticket.metrics.dense_accuracy == pytest.approx(rounds["winning", seed, 0].record.test_accuracy)
    child = found.stored.children[arm, seed]
    assert same(Ticket.load(f"runs:/{child}:2", tracking_uri=store).weights, start)


def test_the_default_is_the_smallest_winning_ticket(found, store):
    won = [each.round for each in found.verdict.rounds if each.wins == "yes"]
    assert won, "the settings of this test make some win"
    ticket = Ticket.load(f"runs:/{found.run_id}", tracking_uri=store)
    assert (ticket.origin.round, ticket.metrics.winning) == (max(won), "yes")
    assert same(ticket.mask, found.smallest_winning_ticket().mask)


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


def test_trained_weights_class_as_was_measured(folder, small_npz, found, store, ticket):
    images = ticket.images()
    x = ticket.data.standardise(channels_first(images.x_test))
    record = next(r for r in found.rounds if (r.arm, r.seed, r.round) == ("winning", 0, 3))
    correct = ticket.module(trained=True)(x).argmax(1).numpy() == images.y_test
    assert (correct != record.correct_bits).sum() <= 2, "rounding to bfloat16 changes a class only at a margin"

    settings = found.stored.settings.model_copy(
        update={"checkpoint_precision": "float32", "arms": ("winning",), "seeds": (0,), "rounds": 2}
    )
    exact = lottery_ticket.run(settings, tracking_uri=store).ticket(1)
    exact = Ticket.load(f"runs:/{exact.origin.run_id}:1", tracking_uri=store)
    record = next(r for r in read_run(found.client, exact.origin.run_id).records if r.round == 1)
    correct = exact.module(trained=True)(x).argmax(1).numpy() == images.y_test
    assert pack_bits(correct) == record.correct


OPTIMIZERS = {
    "sgd momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "muon": lambda p: torch.optim.Muon([each for each in p if each.ndim == 2], lr=1e-2),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_zero_under_any_optimizer(ticket, small, optimizer):
    module = ticket.module()
    held = ticket.apply_to(module)
    stepper = OPTIMIZERS[optimizer](list(module.parameters()))

    def step():
        stepper.zero_grad()
        torch.nn.functional.cross_entropy(module(small.train.x[:200]), small.train.y[:200]).backward()
        stepper.step()

    for _ in range(10):
        step()
        for name, kept in ticket.mask.items():
            assert (module.get_parameter(name)[~kept] == 0).all()
    for name, kept in ticket.mask.items():
        moved = module.get_parameter(name)[kept] != ticket.weights[name][kept]
        assert moved.float().mean() > 0.5
    assert module.state_dict().keys() == ticket.weights.keys()

    held.remove()
    step()
    step()
    assert any((module.get_parameter(name)[~kept] != 0).any() for name, kept in ticket.mask.items())


def test_two_held_modules_do_not_touch_each_other(ticket):
    one, other = ticket.module(), ticket.module()
    ticket.apply_to(one)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(1.0)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    optimizer.step()
    assert all((parameter == 1).all() for parameter in other.parameters())


def test_a_held_module_is_not_kept_alive(ticket):
    before = len(_global_optimizer_post_hooks)
    module = ticket.module()
    ticket.apply_to(module)
    assert len(_global_optimizer_post_hooks) == before + 1
    del module
    gc.collect()
    assert len(_global_optimizer_post_hooks) == before


def test_frozen_layers_are_held_too(ticket):
    module = ticket.module()
    module.fc2.weight.requires_grad_(False)
    ticket.apply_to(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(torch.randn(4, 1, 28, 28)).sum().backward()
    optimizer.step()
    assert torch.equal(module.fc2.weight, ticket.weights["fc2.weight"])
    assert (module.fc1.weight[~ticket.mask["fc1.weight"]] == 0).all()


def test_making_a_module_leaves_the_callers_randomness_alone(ticket):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    ticket.module()
    assert torch.equal(torch.rand(3), expected)


def test_apply_to_refuses_another_network(ticket):
    with pytest.raises(InputError, match="module: 'Linear' does not take the ticket"):
        ticket.apply_to(torch.nn.Linear(3, 4))


def test_to_and_from_torch_prune(ticket, small):
    module = ticket.to_prune()
    assert torch_prune.is_pruned(module)
    assert torch.equal(module(small.test.x), ticket.module()(small.test.x))
    again = Ticket.from_prune(module, ticket.settings)
    assert same(again.mask, ticket.mask)
    assert same(again.weights, ticket.weights)
    assert again.data == ticket.data

    plain = ticket.network().build()
    torch_prune.l1_unstructured(plain.fc1, "weight", amount=0.5)
    partly = Ticket.from_prune(plain, ticket.settings)
    assert partly.mask["fc1.weight"].float().mean() == pytest.approx(0.5)
    assert partly.mask["fc2.weight"].all()
    with pytest.raises(InputError, match="other tensors than fc1"):
        Ticket.from_prune(torch.nn.Linear(3, 4), ticket.settings)


def test_a_users_own_model_runs_only_when_it_is_named(ticket):
    strange = replace(ticket, settings=ticket.settings.model_copy(update={"model": "lottery_ticket.models:fc1"}))
    with pytest.raises(InputError, match=r"--model: None .* allowed: lottery_ticket\.models:fc1, which runs that code"):
        strange.module()
    assert same(dict(strange.module(model="lottery_ticket.models:fc1").state_dict()), ticket.weights)


def test_the_list_is_that_of_the_records(found, store, folder):
    listed = {(each.arm, each.seed, each.round): each for each in list_tickets(store) if each.run_id == found.run_id}
    assert listed.keys() == {(r.arm, r.seed, r.round) for r in found.rounds if r.round > 0}
    judged = {each.round: each for each in found.verdict.rounds}
    for record in (r for r in found.rounds if r.round > 0):
        each = listed[record.arm, record.seed, record.round]
        assert each.density == pytest.approx(record.density)
        assert each.test_accuracy == pytest.approx(record.test_accuracy)
        assert each.trajectory == found.stored.children[record.arm, record.seed]
        assert (each.model, each.dataset) == ("fc1", found.stored.settings.dataset)
        assert each.winning == (judged[record.round].wins if record.arm == "winning" else None)


def test_the_list_is_the_same_through_mlflow(found, store, folder):
    def plain(runs):
        return {run_id: (name, params, tags) for run_id, name, params, tags in runs}

    directly = plain(_read_sqlite(folder / "mlflow.db"))
    assert directly == plain(_read_store(store))
    assert found.run_id in directly


def test_a_deleted_run_is_not_listed(found, store, folder):
    found.client.delete_run(found.run_id)
    try:
        assert found.run_id not in {each.run_id for each in list_tickets(store)}
    finally:
        found.client.restore_run(found.run_id)


def test_tags_that_somebody_edited_do_not_hide_other_runs(found, store):
    other = found.client.create_run("1", tags={"lt.kind": "run", "lt.rounds/winning-seed0/0": "[1"}).info.run_id
    listed = {each.run_id for each in list_tickets(store)}
    assert found.run_id in listed
    assert other not in listed
    with pytest.raises(LotteryTicketError, match="its artifacts are not at"):
        Ticket.load(f"runs:/{other}:1", tracking_uri=store)
    kept = found.client.download_artifacts(found.run_id, "settings.json")
    found.client.log_artifact(other, kept)
    with pytest.raises(InputError, match="lists no round after round 0"):
        Ticket.load(f"runs:/{other}:1", tracking_uri=store)


def test_a_run_of_another_version_is_named_so(found, store, tmp_path):
    (tmp_path / "settings.json").write_text('{"learning_rate": 1}')
    tags = {key: value for key, value in found.client.get_run(found.run_id).data.tags.items() if key[:3] == "lt."}
    other = found.client.create_run("1", tags=tags | {"lt.version": "9.9"}).info.run_id
    found.client.log_artifact(other, str(tmp_path / "settings.json"))
    for call in (
        lambda: Ticket.load(f"runs:/{other}:1", tracking_uri=store),
        lambda: lottery_ticket.resume(other, tracking_uri=store),
    ):
        with pytest.raises(LotteryTicketError, match=r"cannot be read: .* made by another version \(lt 9\.9; "):
            call()
    found.client.delete_run(other)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda init: init["fc1.bias"].fill_(torch.nan), "not finite"),
        (lambda init: init.update({"fc1.weight": torch.ones(1)}), "do not fit its mask"),
        (lambda init: init.pop("fc2.weight"), "do not fit its mask"),
        (lambda init: init.update({"../../evil": torch.ones(1)}), r"a tensor named '\.\./\.\./evil'"),
    ],
)
def test_a_store_that_lies_is_not_believed(tmp_path, monkeypatch, settings, change, why):
    monkeypatch.chdir(tmp_path)
    short = settings.model_copy(update={"rounds": 2, "arms": ("winning",)})
    run = lottery_ticket.run(short, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (init,) = tmp_path.glob("artifacts/**/init.safetensors")
    values = load_weights(init)
    change(values)
    save_weights(values, init)
    with pytest.raises(LotteryTicketError, match=why):
        run.ticket(1)


def test_a_ticket_prints_in_one_line(ticket):
    assert re.fullmatch(
        r"<Ticket fc1-small-winning-seed0-round3-\w{8}: 51.2 % of the weights left, trained>", repr(ticket)
    )


def test_users_and_passwords_stay_at_home():
    assert without_credentials("https://me:secret@host:5000/x") == "https://host:5000/x"
    assert without_credentials("sqlite:///mlruns/mlflow.db") == "sqlite:///mlruns/mlflow.db"


# What a folder may be given as and must not be.


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


# The command line.


@pytest.fixture
def cli(lt, folder, found):
    """`lt` on the store of the run."""

    def call(*arguments):
        return lt(*arguments, MLFLOW_TRACKING_URI=found.client.tracking_uri)

    return call


def test_lt_tickets_filters_and_sorts(cli, found):
    rows = cli("tickets", "--json", "--sort", "density").json
    assert [row["density"] for row in rows] == sorted(row["density"] for row in rows)
    won = cli("tickets", "--json", "--winning").json
    assert won
    assert {row["verdict"] for row in won} == {"wins"}
    best = cli("tickets", "--json", "--sort", "accuracy", "--limit", 3, "--arm", "winning", "--max-density", 0.7).json
    assert len(best) == 3
    assert [row["test_accuracy"] for row in best] == sorted((r["test_accuracy"] for r in best), reverse=True)
    assert max(row["density"] for row in best) <= 0.7
    table = cli("tickets", "--limit", 2, "--min-accuracy", 0.1)
    assert table.code == 0
    assert found.run_id in table.out
    assert "2 of" in table.out


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_lt_tickets_can_be_read_and_copied_at_any_width(lt, found, columns):
    store = found.client.tracking_uri
    done = lt("tickets", "--arm", "reinit-own", COLUMNS=str(columns), MLFLOW_TRACKING_URI=store)
    lines = done.out.splitlines()
    below = lines[lines.index(f"{found.run_id}  fc1 on {found.stored.settings.dataset}") + 1 :]
    for line in below[:3]:
        place, left, accuracy, *_ = line.split()
        assert re.fullmatch(r":[123]:reinit-own-seed[03]", place)
        assert 0 < float(left) < 100
        assert 0 < float(accuracy) < 100
        assert len(line) <= columns
    taken = next(line for line in lines if line.startswith("Bring one here with: lt pull ")).split()[-1]
    assert lt("pull", taken, MLFLOW_TRACKING_URI=store).code == 0


def test_lt_pull_writes_a_folder_once(cli, found, tmp_path):
    done = cli("pull", f"{found.run_id}:3", "mine", "--trained")
    assert done.code == 0, done.err
    assert done.out.startswith("mine: fc1 on small, 51.2 % of the weights left")
    assert Ticket.load(tmp_path / "mine").trained is not None
    again = cli("pull", f"{found.run_id}:3", "mine")
    assert (again.code, again.out) == (2, "")
    assert again.err == "lt: DEST: 'mine' is there already; allowed: a path where nothing is yet\n"
    done = cli("pull", found.run_id, "--json")
    assert (tmp_path / done.json["folder"] / TENSORS).exists()
    name = f"fc1-small-winning-seed0-round{done.json['round']}-{found.run_id[:8]}"
    assert done.json["folder"] == str(Path("tickets", name))
    done = cli("pull", f"{found.run_id}:2:reinit-own-seed3", "--json")
    assert (done.json["arm"], done.json["seed"], done.json["round"]) == ("reinit-own", 3, 2)


def test_a_database_that_is_no_store_is_left_alone(lt, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as database:
        database.execute("CREATE TABLE customers(id)")
    before = (tmp_path / "app.db").read_bytes()
    for command in (["tickets"], ["pull", "0" * 32]):
        done = lt(*command, "--tracking-uri", "sqlite:///app.db")
        assert (done.code, "is no MLflow store" in done.err) == (2, True), done.err
    assert (tmp_path / "app.db").read_bytes() == before


def test_names_with_dollars_and_brackets(cli, found, small_npz, tmp_path):
    shutil.copy(small_npz, tmp_path / "a$_$[bold]b.npz")
    done = cli("train", f"{found.run_id}:2", "--dataset", "a$_$[bold]b.npz", "--iterations", "37")
    assert done.code == 0, done.err
    assert "The ticket on a$_$[bold]b.npz: " in done.out
    assert "a$_$[bold]b" in cli("tickets", "--limit", 1).out
    run_id = cli("tickets", "--json").json[0]["run_id"]
    assert cli("diff", run_id, f"{found.run_id}:2").code == 0


def test_a_pipe_is_no_data_set(cli, found, tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    done = cli("train", f"{found.run_id}:2", "--dataset", "pipe.npz")
    assert (done.code, "--dataset: 'pipe.npz' is no file" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pull", "0" * 32], "TICKET: '00000000000000000000000000000000' is no run in"),
        (["pull", "{run}:9"], "has no ticket of round 9; allowed: 1 to 3"),
        (["pull", "{run}:0"], "has no ticket of round 0; allowed: 1 to 3"),
        (["pull", "{run}:x"], "is no ticket; allowed: RUN, RUN:ROUND, RUN:ROUND:ARM-seedN, models:/NAME@ALIAS"),
        (["pull", "{run}:winning-seed7"], "has no ticket of winning-seed7; allowed: winning-seed0, winning-seed3"),
        (["pull", "{run}:2:dense-seed0"], "has no ticket of dense-seed0; allowed: winning-seed0, winning-seed3"),
        (["pull", "{run}:reinit-seed0"], "has no verdict on reinit; allowed: RUN:ROUND"),
        (["pull", "models:/none@smallest"], "is not in sqlite:"),
        (["pull", "models:/none"], "names no registered model; allowed: models:/NAME@ALIAS or models:/NAME/VERSION"),
        (["pull", "nowhere"], "is no ticket; allowed: RUN, RUN:ROUND"),
        (["train", "nowhere"], "'nowhere' is no folder; allowed: a folder that `lt pull` wrote"),
        (["train", "{run}:3", "--lr", "-1"], "--lr: '-1' is not allowed; allowed: a number > 0"),
        (["train", "{run}:3", "--arms", "reinit"], "--arms: 'reinit' is not allowed; allowed: winning (the ticket)"),
        (["train", "{run}:3", "--arms", "winning,reinit-own"], "and with it reinit, random-mask"),
        (["train", "{run}:3", "--dataset", "kmnist.npz"], "--dataset: 'kmnist.npz' cannot be read"),
        (["train", "{run}:3", "--prune-rate", "0.5"], "No such option: --prune-rate"),
        (["register", "{run}:3", "--name", "a/b"], "--name: 'a/b' is not allowed; allowed: letters"),
        (["register", "{run}:3", "--name", "n", "--alias", "v3"], "--alias: 'v3' is not allowed"),
        (["register", "{run}:3"], "Missing option '--name'"),
        (["register", "models:/a@b", "--name", "n"], "RUN: 'models:/a@b' is no run"),
        (["tickets", "--max-density", "2"], "--max-density: 2.0 is not allowed; allowed: a number from 0 to 1"),
        (["tickets", "--sort", "size"], "--sort: 'size' is unknown; allowed: newest, density, accuracy, gain"),
        (["tickets", "--limit", "0"], "--limit: 0 is not allowed; allowed: a whole number from 1"),
        (["tickets", "--model", "fc2"], "--model: 'fc2' is unknown; did you mean 'fc1'?"),
        (["tickets", "--tracking-uri", "sqlite:///no.db"], "does not exist; allowed: a store that `lt run`"),
    ],
)
def test_bad_input(cli, found, tmp_path, arguments, told):
    done = cli(*[argument.format(run=found.run_id) for argument in arguments])
    assert (done.code, done.out) == (2, ""), done.err
    assert told in done.err
    assert done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["lenet5", "nosuch:net"])
def test_another_model_than_the_tickets_is_refused(lt, found, tmp_path, model):
    """It was taken for no more than a permission, and the ticket's own trained without a word."""
    run = f"{found.run_id}:1"
    lt("pull", run, "mine", "--trained", MLFLOW_TRACKING_URI=found.client.tracking_uri)
    for command in (["train", "mine", "--iterations", 2], ["export", "mine", "e"], ["pull", run, "again"]):
        done = lt(*command, "--model", model, MLFLOW_TRACKING_URI=found.client.tracking_uri)
        assert (done.code, done.out) == (2, ""), command
        assert f"--model: '{model}' is not what this ticket is of; allowed: fc1, or no --model" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
