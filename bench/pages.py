"""What fresh pages cost a training step, and what keeping freed memory saves.

    python bench/pages.py [--repeat 5]

Each row is a process of its own that takes steps of a small convolutional network in plain torch, as it is or with
`keep_freed_memory` called before; in turn. Printed are medians of milliseconds a step by the clock, those that the
system took, and page faults.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

STEPS = 20


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="processes of each kind")
    parser.add_argument("--child", choices=["as it is", "kept"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(*child(given.child == "kept"))
        return
    found: dict[str, list[list[float]]] = {"as it is": [], "kept": []}
    for _ in range(given.repeat):
        for kind, rows in found.items():
            told = subprocess.run(
                [sys.executable, __file__, "--child", kind], capture_output=True, text=True, check=True
            )
            rows.append([float(each) for each in told.stdout.split()])
    print(f"{'freed memory':>14}{'ms a step':>12}{'of the system':>15}{'page faults':>13}{'MiB at most':>13}")
    medians = {kind: [statistics.median(column) for column in zip(*rows, strict=True)] for kind, rows in found.items()}
    for kind, (wall, system, faults, memory) in medians.items():
        print(f"{kind:>14}{wall:12.1f}{system:15.1f}{faults:13.0f}{memory:13.0f}")
    print(f"kept / as it is: {medians['kept'][0] / medians['as it is'][0]:.2f}")


def child(kept: bool) -> tuple[float, float, float, float]:
    """Milliseconds a step, those of the system, page faults a step, the process's largest memory in MiB."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from lottery_ticket.engine.device import keep_freed_memory

    if kept:
        keep_freed_memory()
    torch.set_num_threads(1)
    layers: list[nn.Module] = []
    for inputs in (3, 16, 16):
        layers += [nn.Conv2d(inputs, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    x, y = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))

    def step() -> None:
        network.zero_grad()
        F.cross_entropy(network(x), y).backward()

    for _ in range(3):
        step()
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(STEPS):
        step()
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    system, faults = after.ru_stime - before.ru_stime, after.ru_minflt - before.ru_minflt
    return 1000 * wall / STEPS, 1000 * system / STEPS, faults / STEPS, after.ru_maxrss / 1024


if __name__ == "__main__":
    main()
