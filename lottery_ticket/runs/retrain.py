"""Training a ticket once more, perhaps on other data, next to its controls."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lottery_ticket.config import (
    JUDGING,
    OF_A_TICKET,
    OF_CHANGES,
    OF_THE_MACHINE,
    Settings,
    as_text,
    differences,
    flag,
    merge,
)
from lottery_ticket.data.prepared import Data
from lottery_ticket.engine.job import Member, Train, Watch
from lottery_ticket.errors import InputError
from lottery_ticket.masks import Mask, Weights, under
from lottery_ticket.method.arms import ARMS, Arm, Moment, arm_named
from lottery_ticket.method.trajectory import Checkpoint, Round, finished_round
from lottery_ticket.models.network import Network
from lottery_ticket.models.prunable import layer_of
from lottery_ticket.models.tensors import tensors_of
from lottery_ticket.runs.listener import Listener, whoever_is_here
from lottery_ticket.runs.plan import make_plan
from lottery_ticket.runs.result import Result
from lottery_ticket.runs.run import OnItsWay, carry_out
from lottery_ticket.runs.stopwatch import Stopwatch
from lottery_ticket.store import connection, reach
from lottery_ticket.store.tracking import Tracker
from lottery_ticket.tickets.ticket import Ticket


@reach.quietly()
def train_ticket(
    ticket: Ticket,
    *,
    dense: bool = True,
    model: str | None = None,
    tracking_uri: str | None = None,
    experiment: str = reach.DEFAULT_EXPERIMENT,
    listener: Listener | None = None,
    begun: float | None = None,
    **overrides: Any,
) -> Result:
    """Train a ticket as it was found or otherwise, next to its controls, and keep all in MLflow as `run` does.

    The ticket is the arm `winning` at the round it was found in; the dense control is round 0 (for where it starts see
    `begin`). The other arms borrow the ticket's mask.

    Args:
        ticket: what to train.
        dense: train the dense control.
        model: see `Ticket.network`.
        tracking_uri, experiment, listener, begun: as for `run`.
        overrides: settings that differ from the ticket's; `dataset` for transfer. `seeds` defaults to the ticket's
            seed, `arms` to `winning,reinit`.

    Raises:
        InputError: settings that cannot be, data that the ticket does not take, an unreachable store.

    Example:
        >>> ticket = lottery_ticket.Ticket.load(f"{run_id}:1")
        >>> result = lottery_ticket.train_ticket(ticket, iterations=10)
        >>> [(record.arm, record.round, round(record.density, 2)) for record in result.rounds]
        [('winning', 0, 1.0), ('winning', 1, 0.8), ('reinit', 1, 0.8)]
    """
    clock = Stopwatch(begun)
    own = ticket.network(model)
    settings = retrain_settings(ticket, overrides)
    rounds = [*([0] if dense else []), ticket.origin.round]
    data = ticket.data
    known = data if settings.normalise == ticket.settings.normalise else None
    plan = replace(make_plan(settings, known=known, drawn=False, clock=clock), rounds=rounds)
    settings = plan.settings
    if plan.data.input_shape != data.input_shape:
        raise InputError(
            "--dataset",
            settings.dataset,
            f"has images of shape {plan.data.input_shape}; allowed: {data.input_shape}, which the ticket takes",
        )

    def method(after: Checkpoint | None, watch: Watch, trainer: Train) -> Iterator[list[Round]]:
        return train_again(beginnings, plan.rounds, plan.resolved, plan.network, plan.data, watch, trainer)

    beginnings = begin(ticket, settings, plan.network, own)
    changed = differences(settings, ticket.settings, aside=("rounds", "arms", "seeds", *OF_THE_MACHINE))
    name = " ".join(["ticket", ticket.name, *changed])
    origin = ticket.origin.as_tags()
    with clock.part("tracking"):
        client = connection.connect(tracking_uri, experiment=experiment)
        tracker = Tracker.create(
            client, experiment, settings, "", name, plan.images, plan.data.info, plan.network, origin
        )
    return carry_out(OnItsWay(plan, lambda: tracker, [], clock, listener or whoever_is_here()), method)


def retrain_settings(ticket: Ticket, overrides: Mapping[str, Any]) -> Settings:
    """The settings that a ticket is trained with: its own, but for the overrides and for how it was judged."""
    if told := next((name for name in OF_A_TICKET if name in overrides), None):
        raise InputError(flag(told), as_text(overrides[told]), "is the ticket's own; allowed: none")
    own = ticket.settings.model_dump(exclude=set(JUDGING)) | {
        "arms": ("winning", "reinit"),
        "seeds": (ticket.origin.seed,),
        "rounds": ticket.origin.round + 1,
        "density": None,  # it may be of a round before the last
        "tensor_densities": None,
        **{name: Settings.model_fields[name].default for name in OF_CHANGES},
    }
    named = {"model": ticket.settings.model}  # the caller has had it built
    settings = merge((own, "the ticket"), (named | dict(overrides), None))
    if _rate_of_probabilities(ticket) and "lr" not in overrides:
        why = "is that by which the supermask's probabilities were learned, none for weights; allowed: one of its own"
        raise InputError("--lr", settings.lr, f"{why}, such as 0.1")
    wrong = [arm for arm in settings.arms if not _borrows(arm_named(arm)) and arm != "winning"]
    if wrong or "winning" not in settings.arms:
        borrowing = ", ".join(name for name, arm in ARMS.items() if _borrows(arm))
        raise InputError(
            "--arms", as_text(settings.arms), f"is not allowed; allowed: winning (the ticket), and with it {borrowing}"
        )
    return settings


def _rate_of_probabilities(ticket: Ticket) -> bool:
    """Whether the learning rate of the ticket's run was one for probabilities, near 100, and so never for weights."""
    found_by = ARMS.get(ticket.origin.arm)
    return found_by is not None and found_by.training == "supermask"


def _borrows(arm: Arm) -> bool:
    """Whether it takes the winning ticket's mask, which is all that a ticket has, and is trained as settings say."""
    return not arm.own_mask and arm.lender is None and arm.training == "usual"


@dataclass(frozen=True)
class Beginning:
    """Where the trainings of one seed start.

    Attributes:
        mask: the ticket's.
        start: its start values, pruned weights zero.
        dense: the values of the dense control, none pruned.
        members: the ticket and the controls under its mask.
    """

    mask: Mask
    start: Weights
    dense: Weights
    members: list[Member]


def begin(ticket: Ticket, settings: Settings, network: Network, own: Network) -> dict[int, Beginning]:
    """A ticket made ready for a network of the same architecture, whose number of classes may be another.

    Where it is, the output layer is drawn anew from the seed and no weight of it is pruned, as in Morcos et al. 2019
    (arXiv 1906.02773), section 3.

    The dense control starts from the ticket's values and, where weights are pruned, from θ₀ of its seed, as the store
    has it; of a ticket out of a folder it is drawn:
    for the arms `winning` and `random-mask` of `lt run` that is the network they were found from. Of a late-rewound
    ticket the dense control is that network at iteration 0, as in its run, and the ticket goes on at iteration k: both
    have had as many iterations in the end, on other data too.

    Args:
        ticket: what to train.
        settings: arms and seeds.
        network: what it is trained as, for the new data.
        own: the network that the ticket was found with.

    Returns:
        Seed → where its trainings start.

    Raises:
        InputError: a control that this ticket cannot have, or tensors that cannot be taken over.
    """
    drawn = ticket.initial or _drawn(ticket, own)
    late = ticket.rewound_to > 0
    rewound_at = ticket.rewound_to if settings.rewind_steps != "restart" else 0
    whole = {
        name: value.where(ticket.mask[name], drawn[name]) if name in ticket.mask else value
        for name, value in ticket.weights.items()
    }
    beginnings = {}
    for seed in settings.seeds:
        mask, start, dense = ticket.mask, ticket.weights, drawn if late else whole
        if changed := _output_layer(ticket, network):
            fresh = network.draw(seed, "init")
            new = {name: fresh[name] for name in changed}
            mask = mask | {name: kept for name, kept in network.dense_mask().items() if name in changed}
            start, dense = start | new, dense | new
        held = {name: value.where(mask[name], torch.nan) if name in mask else value for name, value in start.items()}
        at = Moment(lambda: network, seed, ticket.origin.round, mask, mask, dense, held if late else dense, rewound_at)
        members = [Member("winning", seed, mask, start, rewound_at)]
        for arm in settings.arms:
            if arm == "winning":
                continue
            begun = arm_named(arm).start(at)
            values = under(begun.mask, begun.weights)
            if not all(value.isfinite().all() for value in values.values()):
                why = "needs the values of all weights where the ticket was rewound to, which it does not hold"
                raise InputError("--arms", arm, f"{why}; allowed: arms that need survivors' alone, as reinit")
            if all(torch.equal(values[name], under(mask, start)[name]) for name in mask):
                why = f"starts with seed {seed} from the values of this ticket, which is of the arm {ticket.origin.arm}"
                raise InputError("--arms", arm, f"{why}; allowed: other --seeds, or --arms winning")
            members.append(Member(arm, seed, begun.mask, values, begun.begins_at))
        beginnings[seed] = Beginning(mask, start, dense, members)
    return beginnings


def _drawn(ticket: Ticket, own: Network) -> Weights:
    """θ₀ of the ticket's seed, drawn; InputError where the ticket starts from another draw than this one."""
    drawn = own.draw(ticket.origin.seed, "init")
    from_theta = ticket.origin.run_id and ticket.origin.arm == "winning" and ticket.rewound_to == 0
    for name, kept in ticket.mask.items() if from_theta else ():
        if not torch.allclose(ticket.weights[name][kept], drawn[name][kept], rtol=1e-3, atol=1e-6):
            why = f"starts from other values of {name} than its network draws now with its seed, and holds no θ₀"
            raise InputError("TICKET", ticket.name, f"{why}; allowed: its run, {ticket.origin.run_id}, which does")
    return drawn


def _output_layer(ticket: Ticket, network: Network) -> list[str]:
    """The tensors of the output layer, if they are of another shape than the ticket's; InputError if others are."""
    shapes = {name: value.shape for name, value in tensors_of(network.module).items()}
    other = [name for name, value in ticket.weights.items() if value.shape != shapes.get(name)]
    if not other and shapes.keys() == ticket.weights.keys():
        return []
    layers = {layer_of(name) for name in network.output}
    if shapes.keys() != ticket.weights.keys() or not {layer_of(name) for name in other} <= layers:
        why = f"cannot be taken over; allowed: another {' or '.join(sorted(layers))} layer, no more"
        raise InputError("--dataset", ", ".join(sorted(other)), why)
    return [name for name in shapes if layer_of(name) in layers]


def train_again(
    beginnings: Mapping[int, Beginning],
    rounds: Sequence[int],
    settings: Settings,
    network: Network,
    data: Data,
    watch: Watch,
    train: Train,
) -> Iterator[list[Round]]:
    """The dense control as round 0, if that is among the rounds, then the ticket and its controls.

    A ticket that is trained as it was found, with its own seed, ends in what its run found.

    Args:
        beginnings: seed → where its trainings start.
        rounds: 0 for the dense control, and that in which the ticket was found.
        settings: how to train.
        network: what to train it as.
        data: what to train on.
        watch: told of progress within a round.
        train: what trains the members of a round.
    """
    for r in rounds:
        if r == 0:
            members = [Member("winning", seed, network.dense_mask(), each.dense) for seed, each in beginnings.items()]
        else:
            members = [member for each in beginnings.values() for member in each.members]
            members.sort(key=lambda member: settings.arms.index(member.arm))
        trained = train(network, members, data, settings, r, None, watch)
        finished = [finished_round(r, *pair, None, network) for pair in zip(members, trained, strict=True)]
        yield [
            replace(done, rewound=beginnings[done.record.seed].start)
            if (done.record.arm, r) == ("winning", rounds[0])
            else done
            for done in finished
        ]
