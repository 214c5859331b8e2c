"""How long scoring takes, by criterion, against one epoch of training.

    python bench/criteria.py [fc1|lenet5 …] [--repeats N]

On MNIST, a dense network alone, at its initial values: one epoch, from the time of a few of its 917 steps, then each
criterion with all that it asks of the network, by turns; SynFlow with its hundred steps. Medians, in seconds of the
processor with one thread, which others on the machine change least. Scoring is to take less than an epoch for each
criterion but SynFlow.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from lottery_ticket.config import Settings, load_preset
from lottery_ticket.data.prepared import Data, prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.device import arithmetic
from lottery_ticket.engine.job import Member, iterations_per_round
from lottery_ticket.engine.training import train
from lottery_ticket.method.criteria import CRITERIA, scores_by
from lottery_ticket.method.schedule import next_mask
from lottery_ticket.method.trajectory import evidence
from lottery_ticket.models.network import Network, make_network

STEPS = {"fc1": 300, "lenet5": 30}


def main() -> None:
    """Time the epoch and the criteria of each network by turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(STEPS), choices=[*STEPS, []])
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread; seconds of the processor, and of an epoch")
    for model in chosen.models:
        settings = load_preset(model=model, device="cpu", arms="winning", epochs=1, engine="dense")
        with arithmetic(settings, torch.device("cpu")):
            data = prepare(load_images("mnist"), settings.validation_size, torch.device("cpu"))
            network = make_network(settings, data.input_shape, data.classes)
            blocks = {"one epoch": epoch(network, data, settings)}
            blocks |= {name: scoring(network, data, settings, name) for name in CRITERIA}
            seconds = [{name: block() for name, block in blocks.items()} for _ in range(chosen.repeats)]
        medians = {name: statistics.median(each[name] for each in seconds) for name in blocks}
        for name, value in medians.items():
            part = value / medians["one epoch"]
            told = " (aim: below 1)" if name not in ("one epoch", "synflow") and part >= 1 else ""
            print(f"{model:<8} {name:<30} {value:8.3f}  {part:6.3f}{told}")


def timed(run: Callable[[], object]) -> float:
    """Seconds of the processor that a call takes."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def epoch(network: Network, data: Data, settings: Settings) -> Callable[[], float]:
    """What times an epoch, by the difference between many steps and few, so that evaluation is left out."""
    member = Member("winning", 0, network.dense_mask(), network.draw(0, "init"))
    steps, whole = STEPS[settings.model], iterations_per_round(settings, len(data.train))

    def run(count: int) -> float:
        short = settings.model_copy(update={"epochs": None, "iterations": count})
        return timed(lambda: train(network, [member], data, short, 0))

    return lambda: whole * (run(steps + 10) - run(10)) / steps


def scoring(network: Network, data: Data, settings: Settings, name: str) -> Callable[[], float]:
    """What times a mask by this criterion."""
    asked = settings.model_copy(update={"criterion": name, "rounds": 2})
    drawn, dense = network.draw(0, "init"), network.dense_mask()

    def score(mask: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        member = Member("winning", 0, mask, drawn)
        return scores_by(name, evidence(asked, network, data, 0, member, drawn, drawn))

    return lambda: timed(lambda: next_mask(asked, network, dense, 1, score))


if __name__ == "__main__":
    main()
