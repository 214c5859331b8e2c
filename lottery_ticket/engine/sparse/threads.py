"""Kernels on as many threads as torch has, each thread a part of the work.

Threads of our own instead of numba's: no threading layer that a fork would break, and denormals count as zero on all of
them or on none, as torch has it (`torch.set_flush_denormal` reaches the thread that calls it alone). What a kernel
computes of one element does not depend on the part that it is in, so the number of threads changes no bit.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch


def side_by_side(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """kernel(begin, end, *arguments) over all of range(count), in as many parts as torch has threads."""
    threads = min(torch.get_num_threads(), count)
    if threads < 2:
        kernel(0, count, *arguments)
        return
    ends = [count * part // threads for part in range(threads + 1)]
    flush = not bool(torch.tensor(1e-40).mul(1.0))
    others = [_pool().submit(_part, flush, kernel, *part, *arguments) for part in pairwise(ends[1:])]
    kernel(0, ends[1], *arguments)
    for each in others:
        each.result()


def _part(flush: bool, kernel: Callable[..., None], *arguments: Any) -> None:
    torch.set_flush_denormal(flush)
    kernel(*arguments)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="survivors")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
