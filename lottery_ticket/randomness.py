"""All randomness: generators seeded by (seed, purpose, round, epoch), so that nothing carries over."""

import hashlib

import torch


def derive(seed: int, purpose: str, *at: int) -> int:
    """A 63-bit seed for one purpose at one place, e.g. `derive(0, "order", round, epoch)`."""
    key = "/".join(map(str, (seed, purpose, *at)))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *at: int) -> torch.Generator:
    """A CPU generator for one purpose at one place; the same numbers on every device and in every process."""
    return torch.Generator().manual_seed(derive(seed, purpose, *at))
