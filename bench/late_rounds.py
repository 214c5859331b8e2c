"""Would a late round be faster without the inputs and units that no surviving path leads on from?

    python bench/late_rounds.py [fc1|lenet5] [--precision float32|bfloat16]

Finds a ticket of 2.8 % of the weights (20 % of them pruned a round, 16 rounds, shortly trained), counts per layer the
inputs and units from which a surviving path leads to a score – only those without one can be left out with the results
unchanged: a unit that nothing reaches still hands on its bias –, and times forward and backward pass of the network at
both sizes, in turn.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from engine import BATCH, timed  # the script beside this one
from torch import Tensor, nn

from lottery_ticket.config import load_preset
from lottery_ticket.data.prepared import prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine.device import arithmetic
from lottery_ticket.engine.stack import Stack, stack
from lottery_ticket.masks import Mask
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network

ITERATIONS = {"fc1": 500, "lenet5": 60}
REPEATS = 9
STEPS = {"fc1": 300, "lenet5": 10}


def main() -> None:
    """Find the ticket, count, time."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", default="fc1", choices=["fc1", "lenet5"])
    parser.add_argument("--precision", default="float32")
    chosen = parser.parse_args()
    device = torch.device("cpu")
    settings = load_preset(
        model=chosen.model, precision=chosen.precision, arms="winning", rounds=17, prune_rate=0.2, evaluate_every=None
    ).model_copy(update={"iterations": ITERATIONS[chosen.model], "epochs": None})
    data = prepare(load_images("mnist"), 0, device)
    network = make_network(settings, data.input_shape, data.classes)
    with arithmetic(settings, device):
        *_, (last,) = find_tickets(settings, network, data)
        alive = {"fc1": alive_fc1, "lenet5": alive_lenet5}[chosen.model](last.mask)
        print(
            f"{chosen.model}: {100 * last.record.density:.2f} % left, accuracy {100 * last.record.test_accuracy:.2f} %"
        )
        for name, (left, of) in alive.items():
            print(f"  {name:<14} {left:>6} of {of}")
        sizes = [[count[at] for count in alive.values()] for at in (1, 0)]
        blocks = [passes(build(chosen.model, *size), chosen) for size in sizes]
        pairs = [tuple(block() for block in blocks) for _ in range(REPEATS + 1)][1:]
    full, small = (statistics.median(each) for each in zip(*pairs, strict=True))
    share = statistics.median(less / whole for whole, less in pairs)
    print(f"forward and backward pass, batch {BATCH}, {chosen.precision}, {torch.get_num_threads()} threads, medians:")
    print(f"  whole {1e3 * full:.3f} ms, without the dead {1e3 * small:.3f} ms: {share:.2f} ×")


def alive_fc1(mask: Mask) -> dict[str, tuple[int, int]]:
    """Inputs and units with a surviving path to a score, and how many there are."""
    second = mask["output.weight"].any(0)
    first = leads_on(mask["fc2.weight"], second)
    return counts(inputs=leads_on(mask["fc1.weight"], first), first=first, second=second)


def alive_lenet5(mask: Mask) -> dict[str, tuple[int, int]]:
    """Channels, positions and units with a surviving path to a score, and how many there are."""
    second = mask["output.weight"].any(0)
    first = leads_on(mask["fc2.weight"], second)
    positions = leads_on(mask["fc1.weight"], first)
    conv2 = positions.view(64, -1).any(1)
    conv1 = leads_on(mask["conv2.weight"].flatten(2).any(2), conv2)
    return counts(conv1=conv1, conv2=conv2, positions=positions, first=first, second=second)


def leads_on(mask: Tensor, to: Tensor) -> Tensor:
    """Which inputs of a layer have a surviving weight to one of the units `to`."""
    return (mask & to[:, None]).any(0)


def counts(**alive: Tensor) -> dict[str, tuple[int, int]]:
    """How many are alive, of how many."""
    return {name: (int(each.sum()), each.numel()) for name, each in alive.items()}


def build(model: str, *size: int) -> tuple[nn.Module, tuple[int, ...]]:
    """The network with layers of these sizes, and the shape of its images."""
    if model == "fc1":
        inputs, first, second = size
        head = [nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)]
        return nn.Sequential(nn.Flatten(), *head), (1, 1, inputs)
    conv1, conv2, _, first, second = size
    body = [nn.Conv2d(1, conv1, 3, padding=1), nn.ReLU(), nn.Conv2d(conv1, conv2, 3, padding=1), nn.ReLU()]
    head = [nn.Linear(196 * conv2, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 10)]
    return nn.Sequential(*body, nn.MaxPool2d(2), nn.Flatten(), *head), (1, 28, 28)


def passes(network: tuple[nn.Module, tuple[int, ...]], chosen: argparse.Namespace) -> Callable[[], float]:
    """What times a forward and backward pass, in seconds."""
    module, shape = network
    architecture = Stack(module, shape, chosen.precision)
    weights = stack([{name: value.detach() for name, value in module.state_dict().items()}], torch.device("cpu"))
    trained = [value.requires_grad_() for value in weights.values()]
    x, steps = torch.randn(1, BATCH, *shape), STEPS[chosen.model]

    def run() -> None:
        for _ in range(steps):
            torch.autograd.grad(architecture(weights, x, training=True).square().sum(), trained)

    return lambda: timed(run, torch.device("cpu")) / steps


if __name__ == "__main__":
    main()
