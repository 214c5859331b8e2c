"""Runs of a real store compared, from Python and by the command."""

import json
from pathlib import Path

import pytest

import lottery_ticket
from lottery_ticket import InputError
from lottery_ticket.cli.compare import compare
from lottery_ticket.runs.listener import Listener


@pytest.fixture(scope="module")
def faster(found):
    """Another run in that store: of another rate, of other seeds, of three rounds."""
    settings = found.stored.settings.model_copy(
        update={"prune_rate": 0.36, "seeds": (0, 5), "rounds": 3, "arms": ("winning", "reinit"), "engine_threads": None}
    )
    return lottery_ticket.run(settings, tracking_uri=found.client.tracking_uri, listener=Listener()).run_id


def test_arms_of_one_run_and_of_two(found, store, faster, tmp_path):
    figure = tmp_path / "compared.svg"
    sides = (found.run_id, f"{found.run_id}:reinit", faster)
    compared = lottery_ticket.compare_runs(*sides, figure=figure, tracking_uri=store)
    assert figure.exists()
    reinit, other = compared.others
    assert [gap.by for gap in reinit.by_density] == ["paired"] * 4
    table = {(r.arm, r.seed, r.round): r.test_accuracy for r in found.rounds}
    for gap in reinit.by_density:
        r, _ = gap.rounds
        gaps = [table["reinit", seed, r] - table["winning", seed, r] for seed in (0, 3)]
        assert gap.difference == pytest.approx(sum(gaps) / 2)
    assert [gap.rounds for gap in other.by_density] == [(0, 0), (2, 1)]  # 0.8² = 0.64
    assert other.unmatched == (1, 3)
    assert {gap.by for gap in other.by_density} == {"welch"}
    assert compared.settings.keys() == {"prune_rate", "seeds", "rounds"}
    assert compared.data is True


def test_the_command(found, store, faster, tmp_path, capsys):
    how = {"tolerance": 0.1, "level": 0.95, "cost": "computed", "tracking_uri": store}
    compare([found.run_id, faster], figure=tmp_path / "one.png", as_json=False, **how)
    told = capsys.readouterr().out
    for part in ("prune_rate", "0.36", "B minus A at equal density, within 10%", "Welch's, of other seeds", "Cost"):
        assert part in told
    assert "B has no round within 10% of A's density in A's round 1, 3." in told
    fine = {"tolerance": 0.005, "level": 0.995, "cost": "computed", "tracking_uri": store}
    compare([found.run_id, f"{found.run_id}:reinit"], figure=tmp_path / "fine.png", as_json=False, **fine)
    told = " ".join(capsys.readouterr().out.split())
    assert "within 0.5%" in told
    assert "99.5% interval" in told  # not the whole
    compare([found.run_id, f"{found.run_id}:sign-only"], figure=tmp_path / "two.png", as_json=True, **how)
    told = json.loads(capsys.readouterr().out)
    assert told["figure"] == str(tmp_path / "two.png")
    assert [gap["rounds"] for gap in told["others"][0]["by_density"]] == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert not (tmp_path / "mlruns").exists()


def test_at_equal_multiply_adds_over_survivors(found, store, tmp_path, capsys, monkeypatch):
    """All rounds of winning before, and the round itself; rounds of reinit are longer, they begin at iteration 0."""
    sides, how = (found.run_id, f"{found.run_id}:reinit"), {"tolerance": 0.1, "level": 0.95, "tracking_uri": store}
    compared = lottery_ticket.compare_runs(*sides, cost="sparse", tracking_uri=store)

    def took(arm, seed):
        mine = [record.cost for record in found.rounds if (record.arm, record.seed) == (arm, seed)]
        return [cost.images * sum(each.sparse for each in cost.training.values()) for cost in mine]

    for arm, name in zip(("winning", "reinit"), compared.names, strict=True):
        each = [[sum(took("winning", seed)[:r]) + took(arm, seed)[r] for seed in (0, 3)] for r in range(4)]
        assert [point.spent for point in compared.points[name]] == [sum(pair) / 2 for pair in each]
    for cost, said in (("sparse", "over survivors alone"), ("computed", "as computed")):
        compare([*sides], figure=tmp_path / f"{cost}.png", as_json=False, cost=cost, **how)
        told = " ".join(capsys.readouterr().out.split())
        assert f"B minus A at equal multiply-adds {said}, within 10%" in told
        assert f"multiply-adds {said}, that led to the last round's network" in told
        compare([*sides], figure=tmp_path / f"{cost}.svg", as_json=True, cost=cost, **how)
        assert json.loads(capsys.readouterr().out)["cost"] == cost
    monkeypatch.chdir(tmp_path)
    for cost in ("sparse", "computed"):
        compare([*sides], figure=None, as_json=False, cost=cost, **how)
    assert len(list(Path("mlruns/figures").glob("compare-*.png"))) == 2  # neither replaces the other


@pytest.mark.parametrize(
    ("sides", "more", "said"),
    [
        (["{run}"], {}, "RUN: .* is nothing to compare with; allowed: two or more"),
        (["{run}", "{run}:winning"], {}, "RUN: '.*:winning' is named twice|RUN: .* is named twice"),
        (["{run}", "{run}:no-arm"], {}, "has no finished round of that arm; allowed: winning, reinit"),
        (["{run}", "0" * 32], {}, "is no run in"),
        (["{run}", "my-run"], {}, "RUN: 'my-run' names no run; allowed: RUN or RUN:ARM"),
        (["{run}", "{run}:reinit"], {"tolerance": 0.0}, "--tolerance: 0.0 is not allowed; allowed: more than 0"),
        (["{run}", "{run}:reinit"], {"level": 95.0}, "--level: 95.0 is not allowed; allowed: more than 0.5"),
        (["{run}", "{run}:reinit"], {"cost": "dense"}, "--cost: 'dense' is not allowed; allowed: computed, sparse"),
        ([f"{n:032x}" for n in range(27)], {}, "RUN: 27 are too many to tell apart; allowed: 2 to 26"),
        (["{run}", "{run}:reinit"], {"figure": "a.txt"}, "--figure: 'a.txt' is no picture"),
    ],
)
def test_what_cannot_be_compared_is_one_line(found, store, tmp_path, monkeypatch, sides, more, said):
    monkeypatch.chdir(tmp_path)
    how = {"tolerance": 0.1, "level": 0.95, "cost": "computed", "figure": None} | more
    how["figure"] = how["figure"] and Path(how["figure"])
    with pytest.raises(InputError, match=said):
        compare([side.format(run=found.run_id) for side in sides], tracking_uri=store, as_json=True, **how)
    assert not [*tmp_path.iterdir()]
