"""Late rewinding: what goes on at iteration k, who trains how long, and what older runs meant by it."""

import dataclasses
import json
import re
import sqlite3

import numpy as np
import pytest
import torch

import lottery_ticket
from lottery_ticket.analysis.verdict import judge
from lottery_ticket.config import load_preset, settings_then
from lottery_ticket.engine.job import Member
from lottery_ticket.engine.training import train
from lottery_ticket.engine.workers import Workers
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import check_arms
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models.network import make_network
from lottery_ticket.record import Record
from lottery_ticket.store.reading import read_run
from lottery_ticket.store.seal import seal
from lottery_ticket.study.measures import measure
from lottery_ticket.tickets.folder import card_digest, read_folder

ARMS = ("winning", "reinit", "random-mask", "reinit-own")
PER_EPOCH = 17  # batches: 1,000 images, 60 at a time


def network_of(settings, data):
    return make_network(settings, data.input_shape, data.classes)


@pytest.mark.parametrize("k", [1, 8, PER_EPOCH, PER_EPOCH + 1, 29])
@pytest.mark.parametrize(
    "how",
    [
        {"optimizer": "sgd", "lr": 0.1},
        {"optimizer": "sgd-nesterov", "momentum": 0.9, "lr": 0.05, "schedule": "cosine"},
        {"weight_decay": 1e-3, "warmup_iterations": 12},
        {"optimizer": "adamw", "schedule": "cosine", "warmup_iterations": 12, "weight_decay": 0.1},
        {"optimizer": "sgd", "momentum": 0.9, "lr": 0.1, "model": "tests.help.networks:Residual", "iterations": 20},
        {"model": "tests.help.networks:with_dropout"},
        {"model": "tests.help.networks:DroppingItself"},
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_from_theta_k_on_training_is_what_it_was(settings, small, how, k):
    """Bit for bit: batches, schedule, warm-up, moments, running statistics and dropout go on at k."""
    settings = settings.model_copy(update={"evaluate_every": 7, "rewind_iteration": min(k, 19)} | how)
    k, network = settings.rewind_iteration, network_of(settings, small)
    dense = Member("winning", 0, network.dense_mask(), network.draw(0, "init"))
    (whole,) = train(network, [dense], small, settings, 0, k)
    rewound = dataclasses.replace(dense, weights=whole.snapshot, begins_at=k)
    told = []
    (rest,) = train(network, [rewound], small, settings, 0, watch=told.append)
    assert all(torch.equal(rest.weights[name], value) for name, value in whole.weights.items())
    assert rest.curve == [point for point in whole.curve if point.iteration > k]
    assert np.array_equal(rest.correct, whole.correct)
    assert told[-1].done == told[-1].total == settings.iterations - k


@pytest.mark.slow
def test_members_that_begin_at_different_iterations(settings, small):
    """Beside others, in stacks or processes, each ends where it ends alone."""
    settings = settings.model_copy(update={"rewind_iteration": 10, "stack": 2, "jobs": 2})
    network = network_of(settings, small)
    begins = [10, 0, 10, 0, 10]
    group = [Member("winning", i, network.dense_mask(), network.draw(i, "init"), k) for i, k in enumerate(begins)]
    alone = [train(network, [one], small, settings, 1)[0] for one in group]
    told = []
    here = train(network, group, small, settings, 1, watch=told.append)
    with Workers(settings, 1, small.info) as workers:
        there = workers.train(network, group, small, settings, 1, watch=told.append)
    for together in (here, there):
        for one, other in zip(together, alone, strict=True):
            assert [point.iteration for point in one.curve] == [point.iteration for point in other.curve]
            torch.testing.assert_close(one.weights["fc1.weight"], other.weights["fc1.weight"], rtol=1e-3, atol=1e-4)
    assert {progress.total for progress in told} == {5 * settings.iterations - 3 * 10}
    assert max(progress.done for progress in told) == 5 * settings.iterations - 3 * 10


@pytest.mark.parametrize("reading", ["remaining", "all", "restart"])
def test_who_trains_how_long(settings, small, reading):
    t, k = 30, 12
    settings = settings.model_copy(update={"rewind_iteration": k, "rewind_steps": reading, "arms": ARMS, "rounds": 3})
    dense, *later = find_tickets(settings, network_of(settings, small), small)
    end = t + k if reading == "all" else t
    goes_on_at = 0 if reading == "restart" else k
    assert all(
        (done.record.begins_at, done.record.iterations, done.record.curve[0].iteration) == (0, end, 10)
        for done in dense
    )
    for done in (each for rounds in later for each in rounds):
        record, rewound = done.record, done.record.arm in ("winning", "random-mask")
        assert (record.begins_at, record.iterations) == (goes_on_at if rewound else 0, end), record.arm
        assert record.curve[-1].iteration == end
        assert record.curve[-1].epoch == -(-end // PER_EPOCH)
        assert all(point.iteration > record.begins_at for point in record.curve)
        assert record.begins_at < record.early_stop_iteration <= end
        if rewound:
            equal = k + record.iterations - record.begins_at - settings.more_than_dense
            assert equal == end, "with the iterations before θₖ as many as the dense network"
    records = [done.record for rounds in (dense, *later) for done in rounds]
    measured = measure(judge(records), records, [], 3, "iterative")
    assert measured["cost"] == end + 2 * (end - goes_on_at)


@pytest.mark.parametrize("k", [10, 19])
@pytest.mark.parametrize("how", [{"lr": 2e-4}, {"optimizer": "sgd", "lr": 0.02}], ids=str)
def test_where_hardly_anything_is_pruned_the_ticket_is_as_good_as_the_dense_network(settings, small, how, k):
    """A weight in a thousand pruned, three seeds, T = 20: what a ticket gains there it gains by training longer."""

    def gain(reading):
        now = settings.model_copy(update=how | {"rewind_iteration": k, "rewind_steps": reading, **short})
        dense, ticket = find_tickets(now, network_of(now, small), small)
        pairs = zip(ticket, dense, strict=True)
        return np.mean([100 * (one.record.test_accuracy - other.record.test_accuracy) for one, other in pairs])

    short = {"iterations": 20, "rounds": 2, "prune_rate": 1e-3, "seeds": (0, 1, 2), "arms": ("winning",)}
    assert abs(gain("remaining")) < 2.5
    assert abs(gain("all")) < 2.5
    assert gain("restart") > 5


@pytest.mark.parametrize(
    ("flags", "option", "allowed"),
    [
        ("--rewind-iteration 20", "--rewind-iteration: 20", "fewer than the 20 iterations of a round"),
        ("--rewind-iteration 21 --rewind-steps restart", "--rewind-iteration: 21", "fewer than the 20 iterations"),
        ("--warmup-iterations 20", "--warmup-iterations: 20", "fewer than the 20 iterations of a round"),
        ("--warmup-iterations 300 --schedule cosine", "--warmup-iterations: 300", "fewer than the 20 iterations"),
        ("--warmup-iterations 17 --epochs 1", "--warmup-iterations: 17", "fewer than the 17 iterations of a round"),
        ("--schedule cosine --iterations 1", "--schedule: 'cosine'", "constant"),
        ("--rewind-steps rest", "--rewind-steps: 'rest'", "remaining, all, restart"),
    ],
)
def test_what_a_round_is_too_short_for_is_refused(quick_flags, flags, option, allowed, lt, tmp_path):
    flags = flags.split()
    given = (
        quick_flags if "--epochs" not in flags and "--iterations" not in flags else [*quick_flags[:6], *quick_flags[8:]]
    )
    done = lt("run", *given, *flags)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert option in done.err
    assert allowed in done.err
    assert not (tmp_path / "mlruns").exists()


def test_a_sweep_refuses_what_its_rounds_are_too_short_for(lt, small_npz, tmp_path):
    study = (
        "sampler = 'grid'\n[settings]\nrounds = 2\niterations = 20\nvalidation_size = 200\ndataset = {!r}\n[space]\n"
    )
    for space, option in (
        ("warmup_iterations = {low = 0, high = 20, points = 2}", "--warmup-iterations: 20"),
        ("rewind_iteration = {low = 5, high = 25, points = 2}", "--rewind-iteration: 25"),
        ("iterations = {low = 1, high = 9, points = 2}\nschedule = {choices = ['constant', 'cosine']}", "--schedule"),
    ):
        (tmp_path / "s.toml").write_text(
            study.format(str(small_npz)).replace(
                "iterations = 20\n", "" if "iterations = {low = 1" in space else "iterations = 20\n"
            )
            + space
        )
        done = lt("sweep", "s.toml")
        assert done.code == 2, done.out + done.err
        assert option in done.err


def before(told):
    """A document as lt 0.3 wrote it."""
    return {name: value for name, value in told.items() if name not in ("rewind_steps", "begins_at", "iteration")}


@pytest.mark.parametrize(
    ("told", "then"),
    [
        ({"rewind_iteration": 5}, "restart"),
        ({"rewind_iteration": "12"}, "restart"),
        ({"rewind_iteration": 0}, None),
        ({"rewind_iteration": "0"}, None),
        ({}, None),
        ({"rewind_iteration": 5, "rewind_steps": "all"}, "all"),
        ({"rewind_iteration": 5, "rewind_steps": "remaining"}, "remaining"),
    ],
)
def test_what_is_stored_means_what_it_meant(told, then):
    assert settings_then(told).get("rewind_steps") == then
    assert settings_then(told).items() >= told.items()


@pytest.fixture(scope="module")
def old(small_npz, tmp_path_factory):
    """A run of two of three rounds that rewound to iteration 10 of 20, its store made what lt 0.3 left."""
    folder = tmp_path_factory.mktemp("old")
    store = f"sqlite:///{folder / 'mlflow.db'}"
    settings = load_preset(
        dataset=str(small_npz), validation_size=200, rounds=2, iterations=20, evaluate_every=10,
        arms="winning,random-mask", rewind_iteration=10, rewind_steps="restart",
    )  # fmt: skip
    result = lottery_ticket.run(settings, tracking_uri=store)
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("DELETE FROM params WHERE key = 'rewind_steps'").rowcount == 3
    for uri in [result.run_id, *result.stored.children.values()]:
        for item in result.client.list_artifacts(uri):
            if item.path == "settings.json":
                told = json.loads(settings.model_dump_json())
                result.client.log_text(uri, seal(json.dumps(before(told))), "settings.json")
    return result, store


def test_a_run_from_before_keeps_its_meaning_and_is_marked(old, lt):
    result, store = old
    stored = read_run(result.client, result.run_id)
    assert stored.settings.training() == result.stored.settings.training()
    assert stored.settings.more_than_dense == 10
    marked = r"tickets were trained 10 iterations more than the dense network"
    for command in (["figures", result.run_id], ["run", "--resume", result.run_id]):
        done = lt(*command, MLFLOW_TRACKING_URI=store)
        assert done.code == 0, done.err
        assert re.search(marked, done.out)
    done = lt("tickets", MLFLOW_TRACKING_URI=store)
    assert "(+10 iterations)" in done.out
    assert re.search(marked.replace("10", "N"), done.out)
    rows = lt("tickets", "--json", MLFLOW_TRACKING_URI=store).json
    assert {row["more_than_dense"] for row in rows} == {10}


@pytest.mark.slow
def test_a_ticket_from_before_is_trained_as_it_was_found_or_as_now(old, lt, tmp_path):
    result, _ = old
    ticket = result.ticket(1)
    folder = ticket.save(tmp_path / "ticket")
    told = json.loads((folder / "ticket.json").read_text())
    told |= {"settings": before(told["settings"]), "origin": before(told["origin"])}
    (folder / "ticket.json").write_text(json.dumps(told | {"sha256": card_digest(told)}))
    assert read_folder(folder).settings == ticket.settings
    assert read_folder(folder).rewound_to == 10
    done = lt("train", "ticket", "--arms", "winning", "--json")
    assert done.code == 0, done.err
    dense, again = done.json["rounds"]
    found = {(record.arm, record.round): record for record in result.rounds}
    for one in (dense, again):
        assert one["test_loss"] == pytest.approx(found["winning", one["round"]].test_loss, rel=1e-5)
    assert (again["begins_at"], again["iterations"]) == (0, 20)
    done = lt("train", "ticket", "--arms", "winning,reinit", "--rewind-steps", "remaining", "--json")
    assert [(r["arm"], r["begins_at"], r["iterations"]) for r in done.json["rounds"]] == [
        ("winning", 0, 20), ("winning", 10, 20), ("reinit", 0, 20)
    ]  # fmt: skip


def test_a_record_from_before_is_read(old):
    record = old[0].rounds[0]
    assert Record.model_validate(before(record.model_dump())) == record


@pytest.mark.slow
def test_a_ticket_of_each_arm_is_trained_as_its_run_did(settings, tmp_path):
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    late = settings.model_copy(update={"rewind_iteration": 10, "rounds": 2, "arms": ARMS})
    found = lottery_ticket.run(late, tracking_uri=store)
    records = {(record.arm, record.round): record for record in found.rounds}
    for arm, begins_at in (("winning", 10), ("random-mask", 10), ("reinit", 0), ("reinit-own", 0)):
        ticket = lottery_ticket.Ticket.load(f"{found.run_id}:1:{arm}-seed0", tracking_uri=store)
        assert ticket.rewound_to == begins_at
        again = lottery_ticket.train_ticket(ticket, arms="winning", dense=arm == "winning", tracking_uri=store)
        *_, last = again.rounds
        assert (last.begins_at, last.iterations) == (begins_at, 30)
        assert last.test_loss == pytest.approx(records[arm, 1].test_loss, rel=1e-5)
        if arm == "winning":
            assert again.rounds[0].test_loss == pytest.approx(records[arm, 0].test_loss, rel=1e-5)
    with pytest.raises(InputError, match="--rewind-iteration: 10 is not allowed; allowed: fewer than the 5 iterations"):
        lottery_ticket.train_ticket(ticket, iterations=5, tracking_uri=store)


def test_learning_rate_rewinding_goes_on_at_k_from_what_was_trained_last(settings, small):
    """Renda, Frankle & Carbin 2020: end weights under the mask they led to, schedule and data order from k on."""
    chosen = settings.model_copy(
        update={"arms": ("winning", "lr-rewinding"), "rounds": 3, "rewind_iteration": 10, "schedule": "cosine"}
    )
    network = make_network(chosen, small.input_shape, small.classes)
    starts, ends = [], []

    def watched(network, members, data, settings, round, *more):
        mine = next(index for index, each in enumerate(members) if each.arm == "lr-rewinding")
        results = train(network, members, data, settings, round, *more)
        starts.append(members[mine])
        ends.append(results[mine].weights)
        return results

    rounds = list(find_tickets(chosen, network, small, train=watched))
    assert [start.begins_at for start in starts] == [0, 10, 10]
    for before, start in zip(ends, starts[1:], strict=False):
        assert all(torch.equal(before[name], value) for name, value in start.weights.items())
    dense = {each.record.arm: each.weights for each in rounds[0]}
    for name, value in dense["lr-rewinding"].items():
        torch.testing.assert_close(value, dense["winning"][name], rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="--arms: 'lr-rewinding' goes on at the iteration that winning keeps"):
        check_arms(chosen.model_copy(update={"arms": ("lr-rewinding",)}))
    check_arms(chosen.model_copy(update={"arms": ("lr-rewinding",), "rewind_iteration": 0}))
