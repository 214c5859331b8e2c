"""The table of a run and its figures, where seeds diverge and arms stand in any order."""

import pytest

from lottery_ticket.analysis.comparable import CONTROLS
from lottery_ticket.analysis.cost import in_short
from lottery_ticket.analysis.figures import draw_accuracy, draw_learning_curves
from lottery_ticket.analysis.verdict import judge
from lottery_ticket.config import load_preset
from lottery_ticket.record import Both, Cost
from lottery_ticket.runs.listener import Lines
from lottery_ticket.runs.rounds_table import conclusions, rounds_table
from lottery_ticket.store.reading import Stored
from tests.analysis.test_verdict import record, run_of


def told(records):
    """The table's rows as dicts, its caption and the sentences below it."""
    stored = Stored("id", "a run", "0", load_preset(), "", {}, records, None, {})
    table = rounds_table(stored, judge(records))
    return (
        [dict(zip(table.columns, row.cells, strict=True)) for row in table.rows],
        table,
        conclusions(stored, judge(records)),
    )


@pytest.mark.parametrize("first", ["reinit", "winning"])
def test_dense_is_round_0_of_the_winning_arm_in_whatever_order(first):
    records = [record("winning", 0, 0, 0.8448), record("reinit", 0, 0, 0.8538)]
    records += [record("winning", 0, 1, 0.85), record("reinit", 0, 1, 0.84)]
    rows, table, _ = told(sorted(records, key=lambda each: each.arm != first))
    assert [row["dense"] for row in rows] == ["84.48", "84.48"]
    assert table.columns[3] == first
    assert "seeds" not in table.columns


def test_without_the_winning_arm_there_is_no_dense_column():
    _, table, _ = told([record("reinit", 0, r, 0.8) for r in (0, 1)])
    assert table.columns == ["round", "% left", "reinit"]


def test_an_arm_with_other_weights_left_says_so():
    """The row is told by the trunk's, wherever that stands."""
    records = [record(arm, 0, r, 0.8) for r in (0, 1) for arm in ("supermask", "winning", "random-mask")]
    records[3] = records[3].model_copy(update={"density": 0.471})
    rows, _, _ = told(records)
    assert [row["% left"] for row in rows] == ["100", "80"]
    assert [row["supermask"] for row in rows] == ["80.00", "80.00, 47.1 % left"]
    assert [row["random-mask"] for row in rows] == ["80.00", "80.00"]


def some_diverged():
    """Eight seeds, three of which diverge at once: dense 90.53 and winning 93.61 of the other five."""
    records = []
    for seed in range(8):
        good, shift = seed < 5, 0.0002 * (seed - 2)
        records.append(record("winning", seed, 0, 0.9053 + shift if good else 0.2, diverged=not good))
        records.append(record("reinit", seed, 0, 0.905))
        if good:
            records.append(record("winning", seed, 1, 0.9361 - shift))
            records.append(record("reinit", seed, 1, 0.92 + shift, diverged=seed == 0))
            records.append(record("random-mask", seed, 1, 0.91, diverged=seed == 1))
    return records


def test_means_of_a_row_are_of_the_same_seeds_and_say_how_many():
    rows, _, sentences = told(some_diverged())
    assert [row["seeds"] for row in rows] == ["5 of 8", "4 of 8"]
    assert (rows[0]["dense"], rows[0]["winning"]) == ("90.53", "90.53, 3 diverged")
    assert rows[1]["dense"] == "90.54"  # of seeds 1 to 4
    assert rows[1]["winning"] == "93.60"
    assert rows[1]["reinit"] == "92.01, 1 diverged"
    assert rows[1]["random-mask"] == "91.00, 1 diverged, of 3 seeds"
    assert rows[1]["− dense"].startswith("+3.06 ±")
    assert "Diverged: random-mask-seed1, reinit-seed0, winning-seed5, winning-seed6, winning-seed7." in sentences


def test_figures_have_the_same_seeds_and_mark_what_diverged():
    legend = draw_accuracy(some_diverged(), "x", {}, CONTROLS).axes[0].get_legend()
    labels = [text.get_text() for text in legend.get_texts()]
    assert "winning (mean, min–max of 4 to 5 of 8 seeds)" in labels
    assert {"winning, diverged", "reinit, diverged", "random-mask, diverged"} <= set(labels)
    assert "dense 90.54 %" in labels  # of the seeds that the last round has
    draw_learning_curves(some_diverged(), "x", CONTROLS)
    everything = [each.model_copy(update={"diverged": True}) for each in some_diverged()]
    draw_accuracy(everything, "x", {}, CONTROLS)
    draw_learning_curves(everything, "x", CONTROLS)


def test_a_round_that_wins_alone_is_told_apart():
    records = run_of(0.97, 0.98, 0.96, seeds=3)
    for r in range(2, 16):
        records += [each.model_copy(update={"round": r, "density": 0.8**r, "test_accuracy": 0.9}) for each in records
                    if each.round == 1 and r > 1 and each.density == 0.8]  # fmt: skip
    noisy = [each.model_copy(update={"test_accuracy": each.test_accuracy + 0.004 * (each.seed - 1)})
             if (each.arm, each.round) == ("winning", 1) else each for each in records]  # fmt: skip
    rows, table, sentences = told(noisy)
    assert rows[1]["verdict"].endswith("(wins alone)")
    assert "alone" in table.caption
    assert any("Round(s) 1 win judged alone, but not among all 15" in each for each in sentences)
    assert "No winning ticket found." in sentences


def test_a_line_of_a_round_has_the_same_seeds():
    said = []
    lines = Lines(said.append, to_go=False)
    lines._rounds = range(2)
    lines.rounds_finished([each for each in some_diverged() if each.round == 0])
    assert said == ["round  0/1     100 % left  winning 90.53 % (3 of 8 diverged)  reinit 90.50 %"]
    dead = record("winning", 0, 1, 0.1).model_copy(update={"constant": True, "connected": False})
    lines.rounds_finished([dead])
    assert "winning-seed0: no path of surviving weights leads" in said[-1]


def costing(records, to_find=(0, 3_000_000, None)):
    """With 1,000 dense multiply-adds of an image, and 10⁶ of a round's training; made small 900, 810."""

    def cost(record):
        left = round(1000 * record.density)
        small, found = round(900 * 0.9**record.round), to_find[record.round]
        one = {"w": Both(1000, left)}
        return Cost(images=1000, inference=one, training=one, computed=10**6, to_find=found, compact=small)

    return [record.model_copy(update={"cost": cost(record)}) for record in records]


def test_multiply_adds_of_a_round_and_of_the_smallest_ticket():
    rows, table, sentences = told(costing(run_of(0.97, 0.98, 0.96)))
    assert [row["mult.-adds"] for row in rows] == ["1k", "800"]
    assert "multiply-adds of an image over the survivors" in table.caption
    costs = "Multiply-adds of an image: 1k dense, 800 over its survivors, 810 made small"
    assert f"{costs}; to find it: 3M, 3 × the dense network's training." in sentences
    assert len([each for each in sentences if each.startswith("Multiply-adds")]) == 1  # it matches, too


def test_of_multiply_adds_that_are_not_known_nothing_is_said():
    records = run_of(0.97, 0.98, 0.96)
    _, table, _ = told(records)
    assert "mult.-adds" not in table.columns
    assert "ultiply" not in table.caption
    begun_by_04 = [*(each for each in records if each.round == 0), *costing(each for each in records if each.round)]
    assert [row["mult.-adds"] for row in told(begun_by_04)[0]] == ["–", "800"]
    _, _, sentences = told(costing(records, to_find=(None, None)))
    assert "Multiply-adds of an image: 1k dense, 800 over its survivors, 810 made small." in sentences
    assert not any("ultiply" in each for each in told(records)[2])


@pytest.mark.parametrize(
    ("count", "short"),
    [(0, "0"), (999, "999"), (999.6, "1k"), (266_200, "266k"), (999_600, "1M"), (1.27e12, "1.27T"), (3e21, "3e+03E")],
)
def test_numbers_in_short(count, short):
    assert in_short(count) == short
