"""How long the network of a ticket takes for an image: dense, compact, over survivors alone, by onnxruntime."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lottery_ticket.tickets.accuracy import Scores

BATCHES = (1, 128)
"""Images at a time."""

_ROUNDS, _SECONDS = 5, 0.05  # measured so often, for so long each


@dataclass(frozen=True)
class Times:
    """Seconds an image, by how the network is computed and by the images at a time; medians, on one thread."""

    batches: tuple[int, ...]
    seconds: Mapping[str, tuple[float, ...]]


def times(networks: Mapping[str, Scores], inputs: Mapping[str, Tensor]) -> Times:
    """Measure networks in turn, each on images of its own form (`inputs`, by the network's name)."""
    found = [_measured(networks, inputs, batch) for batch in BATCHES]
    return Times(BATCHES, {name: tuple(each[name] for each in found) for name in networks})


def _measured(networks: Mapping[str, Scores], inputs: Mapping[str, Tensor], batch: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in networks}
    parts = {name: inputs[name][:batch] for name in networks}
    with torch.no_grad():
        for name, scores in networks.items():
            scores(parts[name])  # not counted: what is compiled or allocated once
        for _ in range(_ROUNDS):
            for name, scores in networks.items():
                calls, begun = 0, time.perf_counter()
                while calls < 3 or time.perf_counter() - begun < _SECONDS:
                    scores(parts[name])
                    calls += 1
                found[name].append((time.perf_counter() - begun) / calls / len(parts[name]))
    return {name: statistics.median(each) for name, each in found.items()}
