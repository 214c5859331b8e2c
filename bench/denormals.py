"""What numbers below the least normal float32 cost Adam, where weights get no gradient.

    python bench/denormals.py

Steps a stack of three first layers of fc1, with and without such numbers counting as zero (`torch.set_flush_denormal`,
as `lottery_ticket.engine.device.arithmetic` sets it), and prints the median milliseconds of a step early and late: a
weight without gradient has moments that shrink by 0.9 and 0.999 a step, and with weight decay it shrinks itself.
"""

import statistics
import time

import torch

from lottery_ticket.config import Settings, load_preset
from lottery_ticket.engine.optim import Optimizer

MEMBERS, WEIGHTS = 3, 784 * 300
EARLY, LATE = range(100), range(2300, 2400)


def main() -> None:
    """Both sides of each setting."""
    torch.set_num_threads(1)
    base = load_preset("shu-fc1")
    for changes in (
        {},
        {"weight_decay": 1e-4},
        {"frozen": "non-positive"},
        {"frozen": "non-positive", "weight_decay": 1e-4},
    ):
        settings = base.model_copy(update=changes)
        sides = {flushed: milliseconds(settings, flushed) for flushed in (False, True)}
        print(" ".join(f"{name}={value}" for name, value in changes.items()) or "paper")
        for when, kept, flushed in zip(("early", "late"), sides[False], sides[True], strict=True):
            print(f"  {when:<5} kept {kept:6.2f} ms, flushed {flushed:6.2f} ms: {kept / flushed:.1f} ×")


def milliseconds(settings: Settings, flushed: bool) -> tuple[float, float]:
    """Median time of a step among the early and among the late ones."""
    torch.manual_seed(0)
    weights = 0.05 * torch.randn(MEMBERS, WEIGHTS)
    optimizer = Optimizer([settings] * MEMBERS, [weights], [torch.ones_like(weights, dtype=torch.bool)], LATE.stop)
    gradient = 1e-3 * torch.randn_like(weights)
    gradient[:, : WEIGHTS // 6] = 0  # of pixels that are always blank
    times = []
    torch.set_flush_denormal(flushed)
    for _ in range(LATE.stop):
        begun = time.perf_counter()
        optimizer.step([gradient])
        times.append(1000 * (time.perf_counter() - begun))
    torch.set_flush_denormal(False)
    return statistics.median(times[i] for i in EARLY), statistics.median(times[i] for i in LATE)


if __name__ == "__main__":
    main()
