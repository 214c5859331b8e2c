"""Seeds added to a run until it is decided."""

import pytest

import lottery_ticket
from lottery_ticket.errors import InputError
from lottery_ticket.runs.listener import Listener
from lottery_ticket.runs.seeds import extended, last_look, until_decided
from lottery_ticket.store import reading
from lottery_ticket.store.connection import connect


@pytest.fixture
def undecided(settings):
    """So sure of itself must the verdict be that a few seeds decide nothing."""
    short = {"rounds": 2, "iterations": 10, "evaluate_every": 10}
    return settings.model_copy(update=short | {"verdict_level": 0.9999})


@pytest.fixture
def uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


def outcomes(result):
    return {(r.arm, r.seed, r.round): (r.test_loss, r.correct) for r in result.rounds}


def test_seeds_that_are_added_are_the_least_that_are_not_there():
    assert extended((1, 7), 5) == (1, 7, 0, 2, 3)
    assert last_look((0, 1, 2, 3, 4), (3, 5, 8)) == (3, 4)
    assert last_look((0, 1, 2), (3, 5, 8)) == (0, 1, 2)
    assert last_look((0, 1), ()) == (0, 1)


def test_the_first_look_has_three_seeds_or_those_that_are_asked_for(settings):
    chosen, looks = until_decided(settings.model_copy(update={"seeds": (4,)}), 8)
    assert (chosen.seeds, looks) == ((4, 0, 1), (3, 5, 8))
    chosen, looks = until_decided(settings.model_copy(update={"seeds": tuple(range(6))}), 8)
    assert (len(chosen.seeds), looks) == (6, (6, 8))


@pytest.mark.parametrize(
    ("given", "most", "told"),
    [
        ({}, 3, "--max-seeds: 3 leaves no seed to add; allowed: more than 3"),
        ({"arms": ("winning",)}, 9, "--arms: 'winning' has nothing to be decided"),
        ({"arms": ("winning", "reinit", "other-seed")}, 9, "--arms: 'other-seed' takes its masks from another seed, "),
    ],
)
def test_what_could_decide_nothing_is_refused(settings, given, most, told):
    with pytest.raises(InputError, match=told):
        until_decided(settings.model_copy(update=given), most)


@pytest.mark.slow
def test_seeds_are_added_until_there_are_as_many_as_allowed_also_after_an_interruption(undecided, uri):
    whole = lottery_ticket.run(undecided, max_seeds=5, tracking_uri=uri)
    assert (whole.verdict.seeds, whole.verdict.looks, len(whole.rounds)) == (5, (3, 5), 20)
    assert whole.verdict.level == pytest.approx(1 - 1e-4 * 2 / 5)
    assert "look 2 of at most 2, at 5 of at most 5 seeds: all looks together hold at 99.99%" in whole.verdict.evidence
    assert any(told.startswith("Undecided after 5 seeds: round 1, ") for told in whole.verdict.remarks)

    class Impatient(Listener):
        def rounds_finished(self, records):
            if records[0].seed == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"lottery_ticket.resume\("):
        lottery_ticket.run(undecided, max_seeds=5, tracking_uri=uri, listener=Impatient())
    client = connect(uri)
    runs = connect(uri).search_runs([whole.stored.experiment_id], "tags.`lt.kind` = 'run'")
    (interrupted,) = [run.info.run_id for run in runs if run.info.run_id != whole.run_id]
    stored = reading.read_run(client, interrupted)
    assert (stored.settings.seeds, stored.looks) == ((0, 1, 2, 3, 4), (3, 5))
    resumed = lottery_ticket.resume(interrupted, tracking_uri=uri)
    assert outcomes(resumed) == outcomes(whole)
    assert resumed.verdict == whole.verdict == lottery_ticket.load_run(interrupted, tracking_uri=uri).verdict
    assert lottery_ticket.resume(interrupted, tracking_uri=uri).rounds == resumed.rounds  # nothing is left to do


@pytest.mark.slow
def test_a_seed_of_a_later_look_is_trained_as_it_would_be_in_a_run_of_its_own(undecided, uri):
    grown = lottery_ticket.run(undecided, max_seeds=4, tracking_uri=uri)
    alone = lottery_ticket.run(undecided.model_copy(update={"seeds": (3,)}), tracking_uri=uri)
    assert {key: each for key, each in outcomes(grown).items() if key[1] == 3} == outcomes(alone)


@pytest.mark.slow
def test_no_seed_is_added_to_what_is_decided(settings, uri):
    late = settings.model_copy(
        update={"rounds": 2, "prune_rate": 0.6, "iterations": 40, "rewind_iteration": 35, "verdict_tolerance": 0.3}
    )
    result = lottery_ticket.run(late, max_seeds=12, tracking_uri=uri)
    assert not result.verdict.open
    assert result.verdict.seeds < 12
