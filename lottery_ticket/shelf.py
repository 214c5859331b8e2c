"""The tickets in an MLflow store, found by run and round or by their name in the Model Registry."""

import re
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.entities import Run

from lottery_ticket import reading, registry, store
from lottery_ticket.arms import ARMS, Moment
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.listing import Listed, listed
from lottery_ticket.models import Weights
from lottery_ticket.summary import read_rounds
from lottery_ticket.ticket import Metrics, Origin, Ticket, network_of, under

_RUN = re.compile(r"(?:runs:/)?([0-9a-f]{32})(?::(\d{1,9}))?")


def in_store(reference: str) -> bool:
    """Whether a reference names a ticket in a store (a run or a registered model) and no folder."""
    return bool(_RUN.fullmatch(reference)) or reference.startswith(("runs:", "models:"))


def find(
    reference: str,
    *,
    tracking_uri: str | None = None,
    trained: bool = False,
    round: int | None = None,
    arm: str | None = None,
    seed: int | None = None,
    model: str | None = None,
    option: str = "TICKET",
) -> Ticket:
    """A ticket from the store.

    Args:
        reference: `RUN` or `RUN:ROUND`, with or without `runs:/` before it, where RUN is the id of a run or of one
            trajectory; or `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: of the store.
        trained: bring the trained weights along.
        round: as in `RUN:ROUND`. Default: that of the smallest winning ticket.
        arm, seed: of a run; default `winning` and its first seed that has the round.
        model: see `Ticket.network`; needed for the arms that redraw, of models that are not the package's.
        option: how errors call the reference.
    """
    if reference.startswith("models:"):
        ticket = registry.find(store.connect(tracking_uri, create=False), reference, option)
        return ticket if trained else replace(ticket, trained=None)
    matched = _RUN.fullmatch(reference)
    if not matched:
        raise InputError(option, reference, "is no ticket; allowed: RUN, RUN:ROUND, models:/NAME@ALIAS or a folder")
    client = store.connect(tracking_uri, create=False)
    round = int(matched[2]) if matched[2] else round
    with store.telling(f"run {matched[1]}"):
        run = reading.get_run(client, matched[1], option)
        trajectory = None
        if run.data.tags["lt.kind"] == "trajectory":
            trajectory, run = run.info.run_id, reading.get_run(client, run.data.tags["mlflow.parentRunId"], option)
        candidates = [each for each in _listed(run) if trajectory in (None, each.trajectory)]
        chosen = _choose(candidates, reference, round, arm, seed, option)
        return _read(client, run, chosen, trained, model)


def _choose(
    candidates: list[Listed], reference: str, round: int | None, arm: str | None, seed: int | None, option: str
) -> Listed:
    """The ticket asked for."""
    arms = list(dict.fromkeys(each.arm for each in candidates))
    if not arms:
        raise InputError(option, reference, "has no finished round after round 0; allowed: a run that has")
    if arm is None:
        arm = arms[0] if len(arms) == 1 else "winning"
    mine = [each for each in candidates if each.arm == arm and seed in (None, each.seed)]
    if not mine:
        seeds = sorted({each.seed for each in candidates})
        asked = arm if seed is None else f"{arm} with seed {seed}"
        allowed = f"allowed: --arm {', '.join(arms)}, --seed {', '.join(map(str, seeds))}"
        raise InputError(option, reference, f"has no ticket of {asked}; {allowed}")
    rounds = sorted({each.round for each in mine})
    if round is None and len(rounds) == 1:
        round = rounds[0]
    if round is None:
        won = [each.round for each in mine if each.winning == "yes"]
        if not won:
            judged = any(each.winning for each in mine)
            why = (
                "has no winning ticket" if judged else f"has no verdict on {arm}" + (" yet" if arm == "winning" else "")
            )
            raise InputError(option, reference, f"{why}; allowed: RUN:ROUND with a round up to {rounds[-1]}")
        round = max(won)
    found = [each for each in mine if each.round == round]
    if not found:
        raise InputError(option, reference, f"has no ticket of round {round}; allowed: {rounds[0]} to {rounds[-1]}")
    return found[0]


def _read(client: MlflowClient, run: Run, chosen: Listed, trained: bool, model: str | None) -> Ticket:
    """Mask, start values and, if asked for, trained weights from the artifacts."""
    settings, info = reading.read_settings(client, run.info.run_id), reading.read_data_info(run)
    if info is None:
        raise LotteryTicketError(f"run {run.info.run_id} does not say what it was trained on")
    mask = reading.read_mask(client, chosen.trajectory, chosen.round)
    tags = run.data.tags
    ticket = Ticket(
        mask=mask,
        weights={},
        settings=settings,
        data=info,
        metrics=Metrics(
            test_accuracy=chosen.test_accuracy,
            dense_accuracy=chosen.dense_accuracy,
            matching=chosen.matching,
            winning=chosen.winning,
        ),
        origin=Origin(
            tracking_uri=client.tracking_uri,
            experiment_id=run.info.experiment_id,
            run_id=run.info.run_id,
            trajectory=chosen.trajectory,
            arm=chosen.arm,
            seed=chosen.seed,
            round=chosen.round,
            version=tags["lt.version"],
            torch=tags["lt.torch"],
        ),
        trained=reading.read_trained(client, chosen.trajectory, chosen.round, mask) if trained else None,
    )
    if trained and not all(value.isfinite().all() for value in (ticket.trained or {}).values()):
        raise LotteryTicketError(
            f"{ticket.name} diverged: its trained weights are not finite; allowed: the ticket without them"
        )
    return replace(ticket, weights=under(mask, _start(client, run, ticket, model)))


def _start(client: MlflowClient, run: Run, ticket: Ticket, model: str | None) -> Weights:
    """The values a ticket of this arm starts from, its pruned ones whatever they are."""
    origin = ticket.origin
    if ARMS[origin.arm].redraws:
        network = network_of(ticket.settings, ticket.data, model)
        moment = Moment(network, origin.seed, origin.round, ticket.mask, ticket.mask, {})
        return ARMS[origin.arm].start(moment).weights
    of_seed = {(each.arm, each.seed): each.trajectory for each in read_rounds(run.data.tags)}
    rewound = ticket.settings.rewind_iteration or any(key.startswith(reading.ORIGIN) for key in run.data.tags)
    trajectory = of_seed["winning", origin.seed] if rewound else ticket.origin.trajectory
    assert trajectory is not None
    return reading.read_weights(client, trajectory, reading.REWOUND if rewound else "init.safetensors")


def _listed(run: Run) -> list[Listed]:
    return listed(run.info.run_id, run.info.run_name, run.data.params, run.data.tags)
