"""Products of survivors with images, images innermost: a surviving weight is one multiply-add over a contiguous row.

The order of sums is fixed: the same machine, versions and number of threads give the same bits. Compiled when first
called and kept by numba for the next process. Arrays are float32 and contiguous, K members, B images.
"""

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

# Sums may be split into lanes and multiply-adds fused, when compiled; NaN and infinities stay what they are.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


def _forward(first: Any, column: Any, values: Any, x: Any, bias: Any, y: Any) -> None:
    """Y[k, o] = bias[k, o] + Σ values · X[k, column]; row n = k·O + o has the values from first[n] to first[n + 1]."""
    members, rows, images = y.shape
    shared = x.shape[0] == 1
    for k in numba.prange(members):
        inputs = x[0] if shared else x[k]
        for o in range(rows):
            total = y[k, o]
            total[:] = bias[k, o]
            for p in range(first[k * rows + o], first[k * rows + o + 1]):
                weight = values[p]
                row = inputs[column[p]]
                for b in range(images):
                    total[b] += weight * row[b]


def _backward(first: Any, column: Any, values: Any, x: Any, gradient: Any, of_values: Any, of_x: Any) -> None:
    """The gradients of the values and, unless `of_x` is empty, of X, from those of Y."""
    members, rows, images = gradient.shape
    for k in numba.prange(members):
        inputs = x[k]
        wanted = of_x.shape[0] > 0
        for o in range(rows):
            g = gradient[k, o]
            for p in range(first[k * rows + o], first[k * rows + o + 1]):
                row = inputs[column[p]]
                total = np.float32(0)
                for b in range(images):
                    total += g[b] * row[b]
                of_values[p] = total
                if wanted:
                    weight = values[p]
                    there = of_x[k, column[p]]
                    for b in range(images):
                        there[b] += weight * g[b]


@functools.cache
def compiled(parallel: bool) -> tuple[Callable[..., None], Callable[..., None]]:
    """The forward and the backward product, members side by side on torch's threads or one after another."""
    make = numba.njit(fastmath=_FAST, cache=True, parallel=parallel)
    return make(_forward), make(_backward)


def use_threads(threads: int) -> None:
    """As many threads as torch has."""
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))  # type: ignore[attr-defined]
