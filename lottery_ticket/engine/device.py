"""Devices: which one, how it multiplies, and how much memory it has free."""

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from lottery_ticket import memory
from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on the device, or in this machine's memory; None where it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory.free()


IN_MEMORY = 0.5
"""The part of the free memory that a data set may take; a larger one is left where it is."""


def room_for_images(device: torch.device, processes: int = 1) -> int | None:
    """Bytes that a data set may take on the device, and here on its way there, in each of so many processes."""
    free = [free_memory(each) for each in {device, torch.device("cpu")}]
    known = [each for each in free if each is not None]
    return int(IN_MEMORY * min(known) / processes) if known else None


def choose_device(name: str) -> torch.device:
    """`auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`; InputError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name not in found:
        raise InputError("--device", name, f"is not there; allowed on this machine: {', '.join(found)}")
    return torch.device(name)


@functools.cache
def keep_freed_memory() -> None:
    """Have the process keep what tensors free for the next ones, where the C library is glibc.

    Left alone it gives large blocks back to the system at once, and every step pays for fresh pages again: a third of
    the time of a convolutional step (bench/pages.py).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 2**30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def exactly(settings: Settings, device: torch.device) -> AbstractContextManager[None]:
    """Within it, what is measured of networks is in float32, whatever precision they are trained in."""
    return arithmetic(settings.model_copy(update={"precision": "float32"}), device)


@contextmanager
def arithmetic(settings: Settings, device: torch.device) -> Iterator[None]:
    """Within it, matrix products have the settings' precision, convolutions are deterministic, CUDA is this device.

    `bfloat16` is the stack's; `medium` on a CPU has oneDNN round the factors of float32 products where it can.
    Numbers below the least normal float32 (1.2e-38) count as zero, on this thread and those of torch that are made here
    (it reaches no others): the moments of a weight that gets no gradient end there, and a CPU is many times slower with
    them (bench/denormals.py).
    """
    if settings.precision == "tf32" and device.type != "cuda":
        raise InputError(
            "--precision", "tf32", f"needs a CUDA device; allowed on {device.type}: float32, bfloat16, medium"
        )
    tf32 = settings.precision == "tf32"
    before = torch.get_float32_matmul_precision()
    low = "medium" if device.type == "cpu" and settings.precision == "medium" else "highest"
    denormals = bool(torch.tensor(1e-40).mul(1.0))
    torch.set_float32_matmul_precision("high" if tf32 else low)
    torch.set_flush_denormal(True)
    try:
        with (
            torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False, allow_tf32=tf32),
            torch.cuda.device(device if device.type == "cuda" else -1),  # -1: none
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.set_flush_denormal(not denormals)
