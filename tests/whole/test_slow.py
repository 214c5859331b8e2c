"""Long studies, run by `make test-slow`."""

import pytest


@pytest.mark.slow
def test_quick_shows_the_effect(lt):
    """`lt run` with no options: the ticket at about 10 % matches the dense network, reinit is clearly below."""
    done = lt("run", "--json", timeout=900, OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
    assert done.code == 0, done.err
    rounds = {(r["arm"], r["round"]): r for r in done.json["rounds"]}
    assert len(rounds) == 30
    dense, ticket, reinit = rounds["winning", 0], rounds["winning", 10], rounds["reinit", 10]
    assert ticket["density"] == pytest.approx(0.107, abs=0.001)
    assert rounds["winning", 14]["density"] < 0.05
    assert ticket["test_accuracy"] >= dense["test_accuracy"]
    assert reinit["test_accuracy"] < ticket["test_accuracy"] - 0.01
    assert {r["round"]: r["wins"] for r in done.json["verdict"]["rounds"]}[10] == "yes"


@pytest.mark.slow
def test_dense_networks_learn(lt):
    """The mean over eight seeds: one seed moves by half a point with the rounding of its sums."""
    done = lt("run", "--seeds", 8, "--rounds", 1, "--arms", "winning", "--json", timeout=900)
    assert done.code == 0, done.err
    accuracies = [r["test_accuracy"] for r in done.json["rounds"]]
    assert len(accuracies) == 8
    assert sum(accuracies) / 8 > 0.965
