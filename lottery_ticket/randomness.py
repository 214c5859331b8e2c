"""All randomness: generators seeded by (seed, purpose, round, epoch), so that nothing carries over."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, purpose: str, *at: int) -> int:
    """A 63-bit seed for one purpose at one place, e.g. `derive(0, "order", round, epoch)`."""
    key = "/".join(map(str, (seed, purpose, *at)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *at: int) -> torch.Generator:
    """A CPU generator for one purpose at one place; the same numbers on every device and in every process."""
    return torch.Generator().manual_seed(derive(seed, purpose, *at))


def seed_globally(seed: int) -> None:
    """Begin the global generators of torch, NumPy and Python from one seed."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def forked(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Within it the global generators of torch (of the CPU and the device), NumPy and Python are for a user's code.

    They start from `seed` (as they are where it is None) and are afterwards as they were before.
    """
    numpy, python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
            if seed is not None:
                seed_globally(seed)
            yield
    finally:
        np.random.set_state(numpy)
        random.setstate(python)
