"""Training a ticket once more, perhaps on other data, next to its controls."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lottery_ticket.arms import ARMS, Moment
from lottery_ticket.config import Settings
from lottery_ticket.data import Data
from lottery_ticket.errors import InputError
from lottery_ticket.models import Network, Weights
from lottery_ticket.pruning import Mask
from lottery_ticket.ticket import Ticket, under
from lottery_ticket.training import Member, Train, Watch
from lottery_ticket.trajectory import Round, finished_round


@dataclass(frozen=True)
class Beginning:
    """Where the trainings of one seed start.

    Attributes:
        mask: the ticket's.
        ticket: its start values, pruned weights zero.
        dense: the values of the dense control: those the ticket was found from, none pruned.
    """

    mask: Mask
    ticket: Weights
    dense: Weights


def begin(ticket: Ticket, network: Network, own: Network, seed: int) -> Beginning:
    """A ticket made ready for a network of the same architecture, whose number of classes may be another.

    Where it is, the output layer is drawn anew from the seed and no weight of it is pruned, as in Morcos et al. 2019
    (arXiv 1906.02773), section 3.

    Args:
        ticket: what to train.
        network: what it is trained as, for the new data.
        own: the network that the ticket was found with.
        seed: of the training.
    """
    mask, start, dense = dict(ticket.mask), dict(ticket.weights), own.draw(ticket.origin.seed, "init")
    shapes = {name: value.shape for name, value in network.module.state_dict().items()}
    other = {name for name, value in start.items() if value.shape != shapes.get(name)}
    if other:
        (output,) = (name for name, kind in network.kinds.items() if kind == "output")
        layer = output.rpartition(".")[0]
        if shapes.keys() != start.keys() or any(name.rpartition(".")[0] != layer for name in other):
            raise InputError(
                "--dataset", ", ".join(sorted(other)), f"cannot be taken over; allowed: another {layer} layer, no more"
            )
        fresh = network.draw(seed, "init")
        new = {name: fresh[name] for name in start if name.rpartition(".")[0] == layer}
        mask[output] = network.dense_mask()[output]
        start, dense = start | new, dense | new
    return Beginning(mask, under(mask, start), dense)


def train_again(
    ticket: Ticket,
    dense: bool,
    settings: Settings,
    network: Network,
    own: Network,
    data: Data,
    watch: Watch,
    train: Train,
) -> Iterator[list[Round]]:
    """The dense control as round 0, if asked for, then the ticket and its controls as the round it was found in.

    A ticket that is trained as it was found, with its own seed, ends in what its run found.

    Args:
        ticket: what to train.
        dense: whether to train the dense control.
        settings: how; `arms` are `winning`, the ticket, and those that borrow its mask.
        network: what to train it as.
        own: the network that the ticket was found with.
        data: what to train on.
        watch: told of progress within a round.
        train: what trains the members of a round.
    """
    beginnings = {seed: begin(ticket, network, own, seed) for seed in settings.seeds}
    rounds = {0: [Member("winning", seed, network.dense_mask(), each.dense) for seed, each in beginnings.items()]}
    rounds[ticket.origin.round] = [
        Member(
            arm, seed, *ARMS[arm].start(Moment(network, seed, ticket.origin.round, each.mask, each.mask, each.ticket))
        )
        for arm in settings.arms
        for seed, each in beginnings.items()
    ]
    if not dense:
        del rounds[0]
    kept = set()
    for r, members in rounds.items():
        trained = train(network, members, data, settings, r, None, watch)
        finished = []
        for member, result in zip(members, trained, strict=True):
            done = finished_round(r, member, result)
            if member.arm == "winning" and member.seed not in kept:
                kept.add(member.seed)
                done = replace(done, rewound=beginnings[member.seed].ticket)
            finished.append(done)
        yield finished
