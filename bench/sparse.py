"""What training over survivors alone costs, by density, against the dense engine and a plain PyTorch loop.

    python bench/sparse.py [--members K] [--rows 3] [--threads N]

Trains fc1 on MNIST for a part of an epoch at each density: a plain loop over tensors in memory, one network after
another; the engine's dense stack; the same members over survivors alone. The three are measured in turn, several times,
and the medians of the milliseconds per step and network are printed with their ratios. The first sparse step, which
compiles or loads the kernels, is not counted; it is told apart.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data.prepared import Data, prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.training import train
from lottery_ticket.method.pruning import prune
from lottery_ticket.models.network import Network, make_network

DENSITIES = (1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.05, 0.03, 0.01, 0.003)
STEPS = 200


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=4, help="networks in a stack")
    parser.add_argument("--rows", type=int, default=3, help="how often each is measured")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of the kernels")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = prepare(load_images("mnist"), 5000, torch.device("cpu"))
    settings = load_preset("quick", epochs=None, iterations=STEPS, stack=given.members, jobs=1)
    network = make_network(settings, data.input_shape, data.classes)
    begun = time.perf_counter()
    step("sparse", network, pruned(network, given.members, 0.05), data, settings, 2)
    print(f"fc1, {given.members} networks, {given.threads} thread(s), torch {torch.__version__}, ms a step and network")
    print(f"kernels compiled or loaded, and two steps: {time.perf_counter() - begun:.1f} s")
    ratios = ("dense/plain", "sparse/plain", "sparse/dense")
    print(*(f"{name:>8}" for name in ("left %", "plain", "dense", "sparse")), *(f"{name:>13}" for name in ratios))
    for density in DENSITIES:
        members = pruned(network, given.members, density)
        found: dict[str, list[float]] = {"plain": [], "dense": [], "sparse": []}
        for _ in range(given.rows):
            found["plain"].append(plain(network, members[0], data, settings))
            for engine in ("dense", "sparse"):
                found[engine].append(step(engine, network, members, data, settings, STEPS))
        a, b, c = (1000 * statistics.median(each) for each in found.values())
        numbers = (100 * density, a, b, c)
        row = [f"{each:8.3g}" for each in numbers] + [f"{each:13.2f}" for each in (b / a, c / a, c / b)]
        print(*row, flush=True)


def pruned(network: Network, size: int, density: float) -> list[Member]:
    """Members whose largest weights survive; of the output layer a tenth at least."""
    members = []
    for seed in range(size):
        start, dense = network.draw(seed, "init"), network.dense_mask()
        rates = {name: 1 - (max(density, 0.1) if name in network.output else density) for name in dense}
        scores = {name: start[name].abs() for name in dense}
        mask = dense if density == 1 else prune(scores, dense, {name: max(rate, 1e-9) for name, rate in rates.items()})
        members.append(Member("winning", seed, mask, start))
    return members


def step(engine: str, network: Network, members: list[Member], data: Data, settings: Settings, steps: int) -> float:
    """Seconds of the engine per step and network, evaluation at the end left out."""
    seconds: list[float] = []
    chosen = settings.model_copy(update={"engine": engine, "iterations": steps, "evaluate_every": None})
    begun = time.perf_counter()

    def watch(progress: object) -> None:
        seconds.append(time.perf_counter() - begun)

    train(network, members, data, chosen, 0, None, watch)
    at = [each for each in seconds if each]
    return (at[-2] - at[0]) / (steps - 20 - 20) / len(members) if len(at) > 2 else at[-1]


def plain(network: Network, member: Member, data: Data, settings: Settings) -> float:
    """Seconds of a step of a plain loop: torch's own module and Adam, masks multiplied after each step."""
    module = network.build()
    module.load_state_dict(member.weights)
    optimizer = torch.optim.Adam(module.parameters(), lr=settings.lr)
    masks = [(module.get_parameter(name), kept.float()) for name, kept in member.mask.items()]
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    begun = 0.0
    for index in range(STEPS):
        if index == 20:
            begun = time.perf_counter()
        batch = order[index * settings.batch_size : (index + 1) * settings.batch_size]
        optimizer.zero_grad()
        F.cross_entropy(module(data.train.x[batch]), data.train.y[batch]).backward()
        optimizer.step()
        with torch.no_grad():
            for weight, kept in masks:
                weight.mul_(kept)
    return (time.perf_counter() - begun) / (STEPS - 20)


if __name__ == "__main__":
    main()
