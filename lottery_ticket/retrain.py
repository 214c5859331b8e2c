"""Training a ticket once more, perhaps on other data, next to its controls."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lottery_ticket import store
from lottery_ticket.arms import ARMS, Moment
from lottery_ticket.config import Settings, as_text, merge
from lottery_ticket.data import Data
from lottery_ticket.errors import InputError
from lottery_ticket.experiment import Listener, Result, carry_out, make_plan
from lottery_ticket.models import Network, Weights
from lottery_ticket.pruning import Mask
from lottery_ticket.ticket import Ticket, under
from lottery_ticket.tracking import Tracker
from lottery_ticket.training import Member, Train, Watch
from lottery_ticket.trajectory import Checkpoint, Round, finished_round


def train_ticket(
    ticket: Ticket,
    *,
    dense: bool = True,
    model: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = store.DEFAULT_EXPERIMENT,
    listener: Listener | None = None,
    **overrides: Any,
) -> Result:
    """Train a ticket as it was found or otherwise, next to its controls, and keep all in MLflow as `run` does.

    The ticket is the arm `winning` at the round it was found in; the dense control is round 0: the values that the
    ticket was found from, none pruned. The other arms borrow the ticket's mask.

    Args:
        ticket: what to train.
        dense: train the dense control.
        model: see `Ticket.network`.
        tracking_uri, experiment, listener: as for `run`.
        overrides: settings that differ from the ticket's; `dataset` for transfer. `seeds` defaults to the ticket's
            seed, `arms` to `winning,reinit`.

    Raises:
        InputError: settings that cannot be, data that the ticket does not take, an unreachable store.
    """
    begun = time.perf_counter()
    own = ticket.network(model)
    settings = retrain_settings(ticket, overrides)
    plan = replace(make_plan(settings), rounds=[*([0] if dense else []), ticket.origin.round])
    if plan.data.input_shape != ticket.data.input_shape:
        raise InputError(
            "--dataset",
            settings.dataset,
            f"has images of shape {plan.data.input_shape}; allowed: {ticket.data.input_shape}, which the ticket takes",
        )

    def method(after: Checkpoint | None, watch: Watch, trainer: Train) -> Iterator[list[Round]]:
        return train_again(ticket, dense, plan.resolved, plan.network, own, plan.data, watch, trainer)

    for seed in settings.seeds:
        begin(ticket, plan.network, own, seed)
    client = store.connect(tracking_uri)
    changed = [
        f"{name}={as_text(value)}"
        for name, value in settings
        if name not in ("rounds", "arms", "seeds", "rewind_iteration") and value != getattr(ticket.settings, name)
    ]
    name = " ".join(["ticket", ticket.name, *changed])
    tracker = Tracker.create(
        client, experiment, settings, "", name, plan.images, plan.data.info, ticket.origin.as_tags()
    )
    return carry_out(plan, tracker, method, [], begun, listener or Listener())


def retrain_settings(ticket: Ticket, overrides: Mapping[str, Any]) -> Settings:
    """The settings that a ticket is trained with: its own, but for the overrides."""
    own = ticket.settings.model_dump() | {
        "arms": ("winning", "reinit"),
        "seeds": (ticket.origin.seed,),
        "rounds": ticket.origin.round + 1,
        "rewind_iteration": 0,  # where the ticket starts, it has with it
    }
    settings = merge((own, "the ticket"), (dict(overrides), None))
    wrong = [arm for arm in settings.arms if arm not in ARMS or (ARMS[arm].own_mask and arm != "winning")]
    if wrong or "winning" not in settings.arms:
        borrowing = ", ".join(arm for arm in ARMS if not ARMS[arm].own_mask)
        raise InputError(
            "--arms", as_text(settings.arms), f"is not allowed; allowed: winning (the ticket), and with it {borrowing}"
        )
    return settings


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
