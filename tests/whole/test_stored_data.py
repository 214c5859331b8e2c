"""Runs and tickets of version 0.3 go on with the images as they were trained on: read and standardised as then."""

import numpy as np
import pytest

from lottery_ticket.config import load_preset
from lottery_ticket.data import prepared as data
from lottery_ticket.data.images import Images
from lottery_ticket.data.prepared import channels_first, describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.errors import InputError
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.runs.plan import make_plan
from lottery_ticket.runs.retrain import train_ticket
from lottery_ticket.runs.run import Listener, OnItsWay, carry_out, resume
from lottery_ticket.runs.stopwatch import Stopwatch
from lottery_ticket.runs.sync import sync
from lottery_ticket.store import connection, reading
from lottery_ticket.store.tracking import Tracker
from lottery_ticket.study.parse import parse
from lottery_ticket.study.sweep import sweep
from tests.help.outcomes import VARYING


class Interrupted(Listener):
    """Ends the process, as Ctrl-C does, after round 0."""

    def rounds_finished(self, records):
        raise KeyboardInterrupt


def write(path, shape, first_label=0, seed=0):
    """A data set that a network can learn: its label shows in the first values of an image."""
    source = np.random.default_rng(seed)
    content = {}
    for part, count in (("train", 120), ("test", 40)):
        y = np.arange(count) % 4
        x = source.integers(0, 100, (count, *shape)).astype(np.uint8)
        x.reshape(count, -1)[np.arange(count), y] += 150
        content |= {f"x_{part}": x, f"y_{part}": y + first_label}
    np.savez(path, **content)
    return Images("own", str(path), *(content[key] for key in ("x_train", "y_train", "x_test", "y_test")))


def as_version_0_3(images):
    """What version 0.3 kept: statistics of all training images, one for all columns, a std of 0 as 1e-12."""
    x = channels_first(images.x_train)
    axes = [0, 2, 3] if x.ndim == 4 else [0, 1]
    mean, std = x.mean(axes), x.std(axes, correction=0).clamp_min(1e-12)
    told = {"mean": tuple(mean.flatten().tolist()), "std": tuple(std.flatten().tolist())}
    return describe(images, 0).model_copy(update=told)


def interrupted_run(path, images, **more):
    """A run whose images are those, standardised as then: its id, and its rounds if it had not been interrupted."""
    more = {"validation_size": 20, "rounds": 2, "iterations": 6, "batch_size": 20, "evaluate_every": 3} | more
    settings = load_preset(dataset=str(path), **more)
    plan = make_plan(settings, known=as_version_0_3(images))
    assert plan.data.info == as_version_0_3(images)
    client, network = connection.connect(None), plan.network
    tracker = Tracker.create(client, "lottery-ticket", settings, "", "old", plan.images, plan.data.info, network)

    def method(after, watch, trainer):
        return find_tickets(plan.resolved, plan.network, plan.data, after, watch, trainer)

    with pytest.raises(KeyboardInterrupt):
        carry_out(OnItsWay(plan, lambda: tracker, [], Stopwatch(), Interrupted()), method)
    rounds = find_tickets(plan.resolved, plan.network, plan.data)
    return tracker.run_id, [done.record for finished in rounds for done in finished]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder with a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def numbers(records):
    """But for what a kept run is made small to, which is told as it is kept."""
    return [record.model_dump(exclude={**dict.fromkeys(VARYING, True), "cost": {"compact"}}) for record in records]


CASES = {
    "images": ((5, 5), 0, {}),
    "a table": ((6,), 0, {}),
    "channels first, as they stand": ((3, 8, 8), 0, {}),
    "labels from 1, as they stand": ((5, 5), 1, {}),
    "in two processes": ((6,), 0, {"jobs": 2}),
}


@pytest.mark.parametrize(
    ("shape", "first_label", "more"),
    [
        pytest.param(
            *case, id=name, marks=pytest.mark.slow if name in ("images", "a table", "in two processes") else ()
        )
        for name, case in CASES.items()
    ],
)
def test_run_goes_on(tmp_path, shape, first_label, more):
    path = tmp_path / "own.npz"
    images = write(path, shape, first_label)
    run_id, whole = interrupted_run(path, images, **more)
    ended = resume(run_id)
    assert numbers(ended.rounds) == numbers(whole)
    assert ended.stored.data == as_version_0_3(images)


@pytest.mark.slow
def test_ticket_is_trained_and_used_as_it_was_found(tmp_path):
    path = tmp_path / "own.npz"
    run_id, whole = interrupted_run(path, write(path, (3, 8, 8), first_label=1))
    ticket = resume(run_id).ticket(1)
    write(tmp_path / "other.npz", (3, 8, 8), first_label=1)
    again = train_ticket(ticket, dense=False, arms="winning")
    assert again.rounds[0].test_accuracy == next(r.test_accuracy for r in whole if (r.arm, r.round) == ("winning", 1))
    assert again.stored.data == ticket.data


@pytest.mark.slow
def test_other_data_have_statistics_of_their_own(tmp_path):
    path, other = tmp_path / "own.npz", tmp_path / "other.npz"
    run_id, _ = interrupted_run(path, write(path, (5, 5)))
    write(other, (5, 5), seed=1)
    path.rename(tmp_path / "away.npz")
    other.rename(path)
    with pytest.raises(InputError, match=r"--resume: .* was trained on another .*allowed: the same data"):
        resume(run_id)
    (tmp_path / "away.npz").rename(path)
    write(other, (5, 5), seed=1)
    moved = train_ticket(resume(run_id).ticket(1), dataset=str(other), dense=False, arms="winning")
    assert moved.stored.data == describe(load_images(str(other)), 20)


def test_sync_keeps_what_the_run_says_of_its_data(tmp_path):
    path = tmp_path / "own.npz"
    images = write(path, (6,))
    run_id, _ = interrupted_run(path, images)
    sync(run_id)
    client = connection.connect(None)
    for run in [run_id, *reading.read_run(client, run_id).children.values()]:
        assert reading.read_data_info(client, client.get_run(run)) == as_version_0_3(images)


@pytest.mark.slow
def test_a_study_has_one_standardisation_whatever_version_began_it(tmp_path, monkeypatch):
    images = write(tmp_path / "own.npz", (6,))
    settings = {"dataset": images.source, "validation_size": 20, "iterations": 4, "batch_size": 20, "rounds": 2}
    values = {"sampler": "grid", "batch": 1, "densities": [80.0], "settings": settings | {"seeds": 1}}
    values["space"] = {"lr": {"low": 1e-3, "high": 1e-2, "log": True, "points": 2}}
    with monkeypatch.context() as version_0_3:
        version_0_3.setattr(data, "describe", lambda images, *_: as_version_0_3(images))
        sweep(parse("mine.toml", values | {"trials": 1}, {}, {}), "mine")
    trials = sweep(parse("mine.toml", values | {"trials": 2}, {}, {}), "mine").trials
    client = connection.connect(None)
    runs = [client.get_run(trial.run_id) for trial in trials]
    assert [reading.read_data_info(client, run) for run in runs] == 2 * [as_version_0_3(images)]
