"""The tickets in an MLflow store, found by run and round or by their name in the Model Registry."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from lottery_ticket.address import without_credentials
from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import DataInfo, describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.masks import Weights, under
from lottery_ticket.method.arms import Moment, arm_named
from lottery_ticket.models.network import Network
from lottery_ticket.plugins import is_code
from lottery_ticket.store import connection, layout, model_registry, reading
from lottery_ticket.store.layout import Key
from lottery_ticket.store.listing import Listed, listed
from lottery_ticket.store.summary import read_rounds
from lottery_ticket.tickets.reference import RUN
from lottery_ticket.tickets.ticket import Metrics, Origin, Ticket, must_be_of, network_of


def find(
    reference: str,
    *,
    tracking_uri: str | None = None,
    trained: bool = False,
    model: str | None = None,
    option: str = "TICKET",
    changed_model: bool = False,
) -> Ticket:
    """A ticket from the store.

    Args:
        reference: `RUN`, `RUN:ROUND`, `RUN:ARM-seedN` or `RUN:ROUND:ARM-seedN`, with or without `runs:/` before it,
            where RUN is the id of a run or of one trajectory; default is the smallest winning ticket, and the arm
            `winning` with the smallest seed that has the round. Or `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        tracking_uri: of the store.
        trained: bring the trained weights along.
        model: see `Ticket.network`; needed for the arms that ask for the network, of models that are not the package's.
        option: how errors call the reference.
        changed_model: see `Ticket.load`.
    """
    if reference.startswith("models:"):
        ticket = model_registry.find(connection.connect(tracking_uri, create=False), reference, option)
        return replace(
            ticket,
            trained=ticket.trained if trained else None,
            fingerprint=None if changed_model else ticket.fingerprint,
        )
    matched = RUN.fullmatch(reference)
    if not matched:
        allowed = "allowed: RUN, RUN:ROUND, RUN:ROUND:ARM-seedN, models:/NAME@ALIAS or a folder"
        raise InputError(option, reference, f"is no ticket; {allowed}")
    run_id, asked_round, arm, seed = matched.groups()
    round = int(asked_round) if asked_round else None
    client = connection.connect(tracking_uri, create=False)
    with connection.telling(f"reading run {run_id}"):
        run = reading.get_run(client, run_id, option)
        trajectory = None
        if run.data.tags["lt.kind"] == "trajectory":
            trajectory, run = run_id, reading.get_run(client, reading.tag(run, "mlflow.parentRunId"), option)
        settings = reading.read_settings(client, run)
        there, lost = reading.read_trajectories(client, run)
        ids = lost | {
            key: child.info.run_id for key, child in there.items()
        }  # the tags of a run from another store lie
        candidates = [replace(each, trajectory=ids[each.arm, each.seed]) for each in _listed(run)]
        candidates = [each for each in candidates if trajectory in (None, each.trajectory)]
        if round is None and _origin(run):
            round = next((each.round for each in candidates), None)  # the only one
        chosen = _choose(candidates, reference, round, arm, int(seed) if seed else None, option)
        if (chosen.arm, chosen.seed) in lost:
            how = reading.restoring([chosen.trajectory], client.tracking_uri)
            why = f"is of {chosen.arm}-seed{chosen.seed}, which is deleted in MLflow"
            raise reading.Deleted(option, reference, f"{why}; allowed: another, or {how}")
        if arm_named(chosen.arm, f"{reference}: arm").training == "pruned-frozen":
            why = f"is of the arm {chosen.arm}, whose pruned weights are not zero, as those of a ticket are"
            raise InputError(option, reference, f"{why}; allowed: tickets of other arms")
        return _read(client, run, settings, ids, chosen, trained, model, changed_model)


def _choose(
    candidates: list[Listed], reference: str, round: int | None, arm: str | None, seed: int | None, option: str
) -> Listed:
    """The ticket asked for."""
    there = list(dict.fromkeys(f"{each.arm}-seed{each.seed}" for each in candidates))
    if not there:
        why = "lists no round after round 0: none is finished, or another version of lt made it"
        raise InputError(option, reference, f"{why}; allowed: a run that `lt tickets` lists")
    if arm is None:
        arm = candidates[0].arm if len({each.arm for each in candidates}) == 1 else "winning"
    mine = [each for each in candidates if each.arm == arm and seed in (None, each.seed)]
    if not mine:
        asked = arm if seed is None else f"{arm}-seed{seed}"
        raise InputError(option, reference, f"has no ticket of {asked}; allowed: {', '.join(there)}")
    rounds = sorted({each.round for each in mine})
    if round is None:
        won = [each.round for each in mine if each.winning == "yes"]
        if not won:
            judged = any(each.winning for each in mine)
            why = "has no winning ticket" if judged else f"has no verdict on {arm}"
            raise InputError(option, reference, f"{why}; allowed: RUN:ROUND with a round up to {rounds[-1]}")
        round = max(won)
    found = [each for each in mine if each.round == round]
    if not found:
        raise InputError(option, reference, f"has no ticket of round {round}; allowed: {rounds[0]} to {rounds[-1]}")
    return min(found, key=lambda each: each.seed)


def _read(
    client: MlflowClient,
    run: Run,
    settings: Settings,
    ids: Mapping[Key, str],
    chosen: Listed,
    trained: bool,
    model: str | None,
    changed_model: bool,
) -> Ticket:
    """Mask, start values and, if asked for, trained weights from the artifacts."""
    info = reading.read_data_info(client, run)
    if info is None and run.data.tags["lt.kind"] != layout.OWN_LOOP:
        info = _data_again(client, run, settings, chosen)
    must_be_of(settings, model)
    mask = reading.read_mask(client, chosen.trajectory, chosen.round)
    late = settings.rewound_at > 0
    ticket = Ticket(
        mask=mask,
        weights={},
        settings=settings,
        found_on=info,
        metrics=Metrics(
            test_accuracy=chosen.test_accuracy,
            dense_accuracy=chosen.dense_accuracy,
            matching=chosen.matching,
            winning=chosen.winning,
        ),
        origin=Origin(
            tracking_uri=without_credentials(client.tracking_uri),
            experiment_id=run.info.experiment_id,
            run_id=run.info.run_id,
            trajectory=chosen.trajectory,
            arm=chosen.arm,
            seed=chosen.seed,
            round=chosen.round,
            iteration=reading.read_round(client, chosen.trajectory, chosen.round).begins_at if late else None,
            version=reading.tag(run, "lt.version"),
            torch=reading.tag(run, "lt.torch"),
        ),
        trained=reading.read_trained(client, chosen.trajectory, chosen.round, mask) if trained else None,
        fingerprint=None if changed_model else reading.read_network(client, run),
        inventory=reading.read_inventory(client, run),
    )
    if trained and not all(value.isfinite().all() for value in (ticket.trained or {}).values()):
        raise LotteryTicketError(
            f"{ticket.name} diverged: its trained weights are not finite; allowed: the ticket without them"
        )
    start, initial = _start(client, run, ids, ticket, model)
    ticket = replace(ticket, weights=under(mask, start), initial=initial)
    if wrong := ticket.fault():
        raise LotteryTicketError(f"{ticket.name} of run {run.info.run_id} {wrong}")
    if ticket.found_on is not None and not is_code(settings.model):
        ticket.network()  # InputError where the tensors are not those of the model
    return ticket


def _data_again(client: MlflowClient, run: Run, settings: Settings, chosen: Listed) -> DataInfo:
    """What a run of 0.3 was trained on that lost its input on the way from another store: what its settings name.

    Version 0.3 standardised by all training images, and images (D,) by one mean for all columns.
    """
    images = load_images(settings.dataset)
    tested = reading.read_round(client, chosen.trajectory, chosen.round).test_size
    if tested != len(images.y_test):
        why = f"was tested on {tested:,} images, {settings.dataset} has {len(images.y_test):,}"
        raise LotteryTicketError(f"run {run.info.run_id} does not say what it was trained on, and {why}")
    info = describe(images, 0)
    if len(info.image_shape) > 1:
        return info
    as_picture = describe(replace(images, x_train=images.x_train[:, None]), 0)
    return info.model_copy(update={"mean": as_picture.mean, "std": as_picture.std})


def _start(
    client: MlflowClient, run: Run, ids: Mapping[Key, str], ticket: Ticket, model: str | None
) -> tuple[Weights, Weights | None]:
    """The values a ticket of this arm starts from, its pruned ones whatever they are, and θ₀ of its seed if it is kept.

    θ₀ of a ticket that was trained once more is where the dense network beside it began. Nothing is drawn that the run
    has kept.
    """
    origin, mask = ticket.origin, ticket.mask
    arm = arm_named(origin.arm, f"{ticket.name}: arm")
    mine = ticket.origin.trajectory
    assert mine is not None
    if arm.keep_start or (arm.draws and ticket.found_on is None):
        return reading.read_start(client, mine, origin.round, mask), None
    if _origin(run):  # the only round of this trajectory, but for the dense control
        if origin.arm != "winning":
            return reading.read_weights(client, mine, layout.INIT), None
        rewound = reading.read_weights(client, mine, layout.REWOUND)
        told = [each.round for each in read_rounds(run.data.tags) if (each.arm, each.seed) == (origin.arm, origin.seed)]
        return rewound, reading.read_weights(client, mine, layout.INIT) if 0 in told else None

    if arm.makes_mask:  # its mask is what the training ended with, and all that it started from is θ₀
        initial = reading.read_weights(client, mine, layout.INIT)
        return initial, initial

    @cache
    def make_network() -> Network:
        return network_of(ticket.settings, ticket.data, model, ticket.fingerprint)

    trunk = ids.get(("winning", origin.seed), "")
    finder = ("winning", origin.seed) if arm.own_mask else arm.finder(origin.arm, origin.seed, ticket.settings.seeds)
    rounds = {each.round for each in read_rounds(run.data.tags) if (each.arm, each.seed) == finder}
    if not arm.own_mask and origin.round not in rounds:
        lender = "{}-seed{}".format(*finder)
        raise LotteryTicketError(
            f"{ticket.name} takes its mask from round {origin.round} of {lender}, which run {run.info.run_id} does not "
            "list; allowed: tickets of rounds that it lists of both"
        )
    if trunk:
        initial = reading.read_weights(client, trunk, layout.INIT)
        late = ticket.settings.rewind_iteration > 0
        rewound = reading.read_weights(client, trunk, layout.REWOUND) if late else initial
        rewound_at = ticket.settings.rewound_at
    else:
        initial = rewound = make_network().draw(origin.seed, "init")
        rewound_at = 0
    found = reading.read_mask(client, ids[finder], origin.round) if origin.round in rounds else {}
    own = mask if arm.own_mask else found
    start = arm.start(Moment(make_network, origin.seed, origin.round, own, found, initial, rewound, rewound_at))
    if not all(torch.equal(start.mask[name], kept) for name, kept in mask.items()):
        raise LotteryTicketError(f"the arm {origin.arm} does not give the mask again that it gave in {ticket.name}")
    return start.weights, initial


def _origin(run: Run) -> bool:
    """Whether a run is of `lt train`."""
    return any(key.startswith(layout.ORIGIN) for key in run.data.tags)


def _listed(run: Run) -> list[Listed]:
    return listed(run.info.run_id, run.info.run_name, run.data.params, run.data.tags)
