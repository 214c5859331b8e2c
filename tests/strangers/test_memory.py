"""Files that declare far more than they hold: refused in one line, with both numbers, before room is made for it."""

import json
import resource
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lottery_ticket import memory
from lottery_ticket.tickets.files import read_tensors, save_mask, save_weights
from tests.conftest import environment

ROOM, SECONDS = 2**29, 10
"""Bytes of memory that a reader may take beside the libraries, and seconds, for all files together."""

READ = f"""
import resource, sys
from pathlib import Path
from lottery_ticket.data.sources import load_images
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.tickets.files import load_mask, load_weights
from lottery_ticket.untrusted import read_toml
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + {ROOM},) * 2)
readers = {{".toml": lambda path: read_toml(path, "--config"), ".npz": load_images, ".mask": load_mask}}
for name in sys.argv[1:]:
    try:
        readers.get(Path(name).suffix, load_weights)(name)
        print("read")
    except LotteryTicketError as error:
        print(error)
"""


def declaring(path: Path, shape: list[int]) -> None:
    """A mask that keeps nothing of a tensor of this shape."""
    stream = zlib.compress(bytes(-(-int(np.prod(shape)) // 8)), 9)
    told = {"w": {"shape": shape, "dtype": "bool", "kept": "bool", "crc32": zlib.crc32(stream)}}
    text = json.dumps(told)
    tensors = {"w": torch.frombuffer(bytearray(stream), dtype=torch.uint8)}
    save_file(tensors, path, {"tensors": f"{zlib.crc32(text.encode()):08x}{text}"})


def test_what_declares_more_than_it_holds_is_refused(tmp_path):
    declaring(tmp_path / "w.mask", [2**14, 2**14])
    declaring(tmp_path / "mask.safetensors", [2**14, 2**14])
    save_weights({"w": torch.zeros(0)}, tmp_path / "weights.safetensors", {"w": torch.zeros(0, dtype=torch.bool)})
    images = {f"{key}_{part}": np.zeros((n, *shape), np.uint8) for part, n in (("train", 100_000), ("test", 9))
              for key, shape in (("x", (32, 32)), ("y", ()))}  # fmt: skip
    np.savez_compressed(tmp_path / "zeros.npz", **images)
    (tmp_path / "bare.toml").write_text("a" + ".a" * 50_000 + " = 1\n")
    (tmp_path / "quoted.toml").write_text('"\\""' + ' . "\\""' * 100_000 + " = 1\n")
    (tmp_path / "tables.toml").write_text(f"[{'.'.join('abcdefghijklmnopq')}]\n")
    (tmp_path / "inline.toml").write_text("x = {" + ".".join("a" * 100_000) + " = 1}\n")
    (tmp_path / "prose.toml").write_text(f'a.b = "{".".join("a" * 100)}" # {".".join("a" * 100)}\n')
    expected = {
        "w.mask": r"declares 1,342,177,280 bytes; allowed: at most 268,435,456 in a file of 3",
        "weights.safetensors": r"declares 1,342,177,280 bytes; allowed: at most 268,435,456 in a file of 3",
        "zeros.npz": "declares 102,509,",
        "bare.toml": "a key of over 16 parts",
        "quoted.toml": "a key of over 16 parts",
        "tables.toml": "a key of over 16 parts",
        "inline.toml": "a key of over 16 parts",
        "prose.toml": "read",
    }

    def within() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + 20,) * 2)

    told = subprocess.run(
        [sys.executable, "-c", READ, *(str(tmp_path / name) for name in expected)],
        check=False, capture_output=True, text=True, env=environment(), timeout=100, preexec_fn=within, cwd=Path.cwd(),
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert len(lines) == len(expected)
    for line, (name, words) in zip(lines, expected.items(), strict=True):
        assert words in line, (name, line)


@pytest.mark.parametrize("left", [0.01, 0.001])
def test_sparse_tickets_of_large_networks_are_read(tmp_path, left):
    """60 million weights, more than any file may declare: their masks hold enough."""
    kept = torch.rand(60_000_000, generator=torch.Generator().manual_seed(0)) < left
    save_mask({"w": kept}, tmp_path / "mask")
    assert torch.equal(read_tensors(tmp_path / "mask")["w"], kept)


def test_what_this_machine_has_no_memory_for_is_refused():
    assert memory.too_much(100, 200, 50, 2**62).startswith("needs 4,611,686,018,427,387,904 bytes of memory; allowed: ")
    assert memory.too_much(100, 200, 50, 200) is None
