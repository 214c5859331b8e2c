"""Are accuracies those of the dense engine where only survivors are multiplied?

    python bench/both_engines.py [fc1 lenet5] [--iterations 300] [--seeds 5]

Trains the same masked networks on MNIST with `--engine dense` and `sparse`, at three densities (largest weights of the
start survive), several seeds each, and prints the mean test accuracy of both and the difference with its 95 % interval,
paired by seed, in points.
"""

import argparse

import torch
from sparse import pruned  # the script beside this one

from lottery_ticket.analysis.statistics import over_seeds
from lottery_ticket.config import load_preset
from lottery_ticket.data.prepared import prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.training import train
from lottery_ticket.models.network import make_network

DENSITIES = (0.2, 0.05, 0.01)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["fc1", "lenet5"])
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    data = prepare(load_images("mnist"), 5000, torch.device("cpu"))
    print(f"{'model':8}{'left %':>8}{'dense':>9}{'sparse':>9}   difference in points")
    for model in given.models:
        settings = load_preset("quick", model=model, epochs=None, iterations=given.iterations, evaluate_every=None)
        network = make_network(settings, data.input_shape, data.classes)
        for density in DENSITIES:
            members = pruned(network, given.seeds, density)
            found = {
                engine: [
                    100 * trained.curve[-1].test_accuracy
                    for trained in train(network, members, data, settings.model_copy(update={"engine": engine}), 0)
                ]
                for engine in ("dense", "sparse")
            }
            apart = [b - a for a, b in zip(found["dense"], found["sparse"], strict=True)]
            spread = over_seeds(apart)
            told = (
                "none at all"
                if spread is None
                else f"{spread.mean:+.3f} ± {spread.interval(0.95)[1] - spread.mean:.3f}"
            )
            means = (sum(each) / len(each) for each in found.values())
            print(f"{model:8}{100 * density:8.3g}", *(f"{each:8.2f}" for each in means), f"  {told}")


if __name__ == "__main__":
    main()
