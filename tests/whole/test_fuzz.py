"""Files from strangers: whatever is done to a good one, it is read or refused in one line, and runs no code.

LT_FUZZ=5000 pytest tests/whole/test_fuzz.py -s     # so many inputs for each reader; prints how many were refused
"""

import json
import os
import resource
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lottery_ticket
from lottery_ticket.config import load_settings
from lottery_ticket.data.sources import load_images
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.reproduction.parse import load_reproduction
from lottery_ticket.store.find import find
from lottery_ticket.store.outbox import Outbox
from lottery_ticket.store.reading import read_record, validated
from lottery_ticket.store.seal import unseal
from lottery_ticket.study.parse import load_study
from lottery_ticket.tickets.export import export
from lottery_ticket.tickets.files import load_mask, load_weights, save_weights
from lottery_ticket.tickets.folder import CARD, TENSORS, card_digest, read_folder
from lottery_ticket.tickets.graph import load_compact
from tests.whole.test_bad_input import npz

TIMES = int(os.environ.get("LT_FUZZ", "60"))
ROOM = 2**30  # of memory, beyond what is there
TOKENS = [
    b"-1", b"0", b"1e999", b"NaN", b"null", b"[]", b"{}", b"true", b'""', b"9" * 30, b"18446744073709551615",
    b"[" * 5000, b"../../x", b"/etc/passwd", b"/dev/zero", b"\x00", b"\xff" * 8, b"cposix\nsystem\n(S'id'\ntR.",
    b'"dtype":"O"', b"|O",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "twice", "token", "end"]), st.floats(0, 1), st.integers(0, 10**6)),
    min_size=1,
    max_size=6,
)


def edited(whole: bytes, edits) -> bytes:
    """The bytes with bits flipped, pieces cut out or repeated, tokens put in, or the end cut off."""
    for kind, where, number in edits:
        at = int(where * len(whole))
        length = 1 + number % 40
        if kind == "flip" and at < len(whole):
            whole = whole[:at] + bytes([whole[at] ^ (1 << number % 8)]) + whole[at + 1 :]
        elif kind == "cut":
            whole = whole[:at] + whole[at + length :]
        elif kind == "twice":
            whole = whole[:at] + whole[at : at + length] * 2 + whole[at + length :]
        elif kind == "token":
            whole = whole[:at] + TOKENS[number % len(TOKENS)] + whole[at + (number // 100) % 12 :]
        else:
            whole = whole[:at]
    return whole


@pytest.fixture(scope="module")
def good(small_npz, tmp_path_factory):
    """Name → a good file and what reads it."""
    folder = tmp_path_factory.mktemp("good")
    chosen = lottery_ticket.load_preset(dataset=str(small_npz), validation_size=200, rounds=2, iterations=5)
    result = lottery_ticket.run(chosen, tracking_uri=f"sqlite:///{folder}/mlflow.db")
    result.ticket(1).save(folder / "ticket")
    with_weights = find(f"{result.run_id}:1", tracking_uri=f"sqlite:///{folder}/mlflow.db", trained=True)
    export(with_weights, folder / "compact.safetensors", "state-dict", compact=True)
    mask, record = (next(folder.rglob(f"rounds/01/{name}")) for name in ("mask.safetensors", "round.json"))
    stored = next(folder.rglob(f"{result.run_id}/artifacts/settings.json"))
    save_weights({"w": torch.randn(30, 20)}, folder / "weights.safetensors")
    (folder / "config.toml").write_text('preset = "shu-fc1"\nlr = 0.01\nseeds = "0,1"\narms = ["winning", "reinit"]\n')
    (folder / "data.npz").write_bytes(npz())
    outbox = Outbox(f"sqlite:///{folder}/mlflow.db", "0" * 32)
    outbox.set_aside("metrics", "too many")
    reasons = outbox.aside / "reasons.json"
    shipped = Path(lottery_ticket.__file__).parent
    return {
        "mask": (mask, load_mask),
        "weights": (folder / "weights.safetensors", load_weights),
        "round.json": (record, read_record),
        "ticket": (folder / "ticket", read_folder),
        "compact": (folder / "compact.safetensors", load_compact),
        "config": (folder / "config.toml", lambda path: load_settings(None, path, {})),
        "study": (shipped / "shipped" / "sweeps" / "map.toml", load_study),
        "report": (shipped / "shipped" / "reports" / "shu.toml", lambda path: load_reproduction(str(path))),
        "settings": (stored, lambda path: validated(path.read_bytes())),
        "outbox": (reasons, lambda path: Outbox(f"sqlite:///{path.parents[3]}/mlflow.db", "0" * 32).refused),
        "data": (folder / "data.npz", lambda path: load_images(str(path))),
    }


@pytest.fixture
def trap(monkeypatch):
    """Whatever starts a program fails the test, and so does taking gigabytes of memory."""

    def sprung(*arguments, **_):
        raise AssertionError(f"code was run: {arguments}")

    monkeypatch.setattr(os, "system", sprung)
    monkeypatch.setattr(subprocess, "Popen", sprung)
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


READERS = [
    "mask",
    "weights",
    "round.json",
    "settings",
    "ticket",
    "compact",
    "config",
    "study",
    "report",
    "data",
    "outbox",
]


@pytest.mark.parametrize("times", [TIMES, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused(good, name, times, tmp_path, trap):
    whole, read = good[name]
    tried = Counter()

    @settings(max_examples=times, deadline=10_000, database=None, suppress_health_check=list(HealthCheck))
    @given(EDITS, st.booleans())
    def damage(edits, which):
        tried["inputs"] += 1
        with suppress(LotteryTicketError):
            read(written(whole, edits, which, tmp_path))
            tried["read"] += 1

    read(written(whole, [], True, tmp_path))
    damage()
    print(f"{name}: {tried['inputs']} inputs, {tried['inputs'] - tried['read']} refused")
    assert tried["inputs"] > tried["read"]


def written(whole, edits, which, folder):
    """The damaged copy of a file; of a ticket one of its two, under checksums that fit it."""
    if whole.is_file():
        path = folder / whole.name
        if whole.name == "reasons.json":
            path = folder / "outbox" / ("0" * 32) / "refused" / whole.name
            path.parent.mkdir(parents=True, exist_ok=True)
        raw = whole.read_bytes()
        path.write_bytes(edited(raw if path.suffix != ".json" else unseal(raw), edits))
        return path
    copy = folder / "ticket"
    copy.mkdir(exist_ok=True)
    tensors, card = (whole / TENSORS).read_bytes(), (whole / CARD).read_bytes()
    if which:
        card = edited(card, edits)
    else:
        tensors = edited(tensors, edits)
    (copy / TENSORS).write_bytes(tensors)
    with suppress(ValueError, RecursionError, KeyError, TypeError, AttributeError):
        from lottery_ticket.tickets.folder import _file_info

        told = json.loads(card)
        if not which:
            told["files"][TENSORS] = _file_info(copy / TENSORS).model_dump()
        card = json.dumps(told | {"sha256": card_digest(told)}).encode()
    (copy / CARD).write_bytes(card)
    return copy
