"""A flipped bit in anything that a run keeps is noticed and named."""

import random
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lottery_ticket import load_mask, load_weights
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.store.reading import get_run, read_record, read_run, read_settings
from lottery_ticket.store.seal import seal, unseal

FLIPS = 500


@pytest.fixture
def stored(lt, quick_flags, tmp_path):
    """A client, the run's id, and path → how it is read, for every artifact that is."""
    done = lt("run", *quick_flags, "--rewind-iteration", 5, "--json")
    assert done.code == 0, done.err
    client, run_id = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db"), done.json["run_id"]
    run = get_run(client, run_id)
    readers = {Path(client.download_artifacts(run_id, ""), "settings.json"): lambda _: read_settings(client, run)}
    for child in read_run(client, run_id).children.values():
        for path in Path(client.download_artifacts(child, "")).rglob("*.*"):
            readers[path] = {"mask.safetensors": load_mask, "round.json": read_record}.get(path.name, load_weights)
    return client, run_id, readers


@pytest.mark.slow
def test_no_flipped_bit_passes_unnoticed(stored):
    _, _, readers = stored
    chance, tried = random.Random(0), Counter()
    by_name = {}
    for path in sorted(readers):
        by_name.setdefault(path.name, []).append(path)
    tensors = {f"{name}.safetensors" for name in ("init", "rewound", "mask", "weights")}
    assert by_name.keys() == {*tensors, "settings.json", "round.json"}
    for flip in range(FLIPS):
        name = sorted(by_name)[flip % len(by_name)]
        path = chance.choice(by_name[name])
        whole = path.read_bytes()
        header = int.from_bytes(whole[:8], "little") if path.suffix == ".safetensors" else 0
        places = {"length": (0, 8), "header": (8, 8 + header), "data": (8 + header, len(whole))} if header else {}
        part = chance.choice(sorted(places)) if places else "text"
        at = chance.randrange(*places.get(part, (0, len(whole))))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(LotteryTicketError, match=path.stem):  # noqa: PT012
            readers[path](path)
            pytest.fail(f"bit flipped at {at} of {part} of {path.name}: {whole[at - 20 : at + 20]!r}")
        path.write_bytes(whole)
        readers[path](path)
        tried[name, part] += 1
    assert len(tried) == 2 + 4 * 3, tried


def test_a_damaged_round_stops_resume_and_names_the_file(stored, lt):
    _, run_id, readers = stored
    path = next(path for path in readers if path.name == "round.json")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"test_accuracy":0', b'"test_accuracy":1'))
    done = lt("run", "--resume", run_id)
    assert done.code == 1
    assert "round.json cannot be read" in done.err
    path.write_bytes(whole)
    assert lt("run", "--resume", run_id).code == 0


@pytest.mark.parametrize("document", ['{"a":"1"}', '{"a": "ä"\n}', '{"crc32":"00000000"}'])
def test_seal(document):
    assert unseal(seal(document).encode()) == document.replace("\n}", "}").encode()
    for damaged in (seal(document) + " ", seal(document).replace('{"', '{"b', 1), seal(document).replace('"}', '0"}')):
        with pytest.raises(LotteryTicketError):
            unseal(damaged.encode())
