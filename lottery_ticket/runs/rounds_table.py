"""A run's rounds as a table of texts, and the verdict in sentences: for a terminal and for a notebook."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape

from lottery_ticket.analysis.comparable import comparable, mean_accuracy, mean_left, trunk_of
from lottery_ticket.analysis.cost import sparse_in_short, ticket_in_words
from lottery_ticket.analysis.verdict import Difference, RoundVerdict, Verdict
from lottery_ticket.record import Record
from lottery_ticket.store.reading import Stored
from lottery_ticket.store.summary import in_words, longer_in_words

_ALIKE = 0.01
"""Part by which an arm's weights left may differ from those of its row without a word."""


@dataclass(frozen=True)
class Row:
    """A round: a text for each column, and whether its ticket wins."""

    cells: list[str]
    wins: bool


@dataclass(frozen=True)
class RoundsTable:
    """A row for each round; `columns` are numbers to be aligned at the right, but for `verdict`."""

    title: str
    caption: str
    columns: list[str]
    rows: list[Row]

    def to_html(self) -> str:
        """As HTML, without style but for what aligns and what wins."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = ""
        for row in self.rows:
            weight = ' style="font-weight:bold"' if row.wins else ""
            body += f"<tr{weight}>{''.join(f'<td>{escape(cell)}</td>' for cell in row.cells)}</tr>"
        return (
            f"<table><caption>{escape(self.title)}<br><small>{escape(self.caption)}</small></caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )


def rounds_table(stored: Stored, verdict: Verdict | None) -> RoundsTable:
    """The table of a run that has finished a round: mean accuracies in %, differences in points, the verdict."""
    records, counted = stored.records, comparable(stored.records, stored.controls)
    arms = list(dict.fromkeys(record.arm for record in records))
    judged = {r.round: r for r in verdict.rounds} if verdict else {}
    seeds = {record.seed for record in records}
    shared = {r: {each.seed for each in counted if each.round == r} for r in sorted({each.round for each in records})}
    lost = any(each != seeds for each in shared.values())
    dense = [record for record in records if (record.arm, record.round) == ("winning", 0)]
    told = any(record.cost for record in records)
    columns = ["round", "% left", *(["mult.-adds"] if told else []), *(["seeds"] if lost else [])]
    columns += [*(["dense"] if dense else []), *arms]
    mean = ", mean over seeds" if len(seeds) > 1 else ""
    caption = f"test accuracy in %{mean}; ± is the interval's half"
    if told:
        caption += "; multiply-adds of an image over the survivors"
    if lost:
        caption += "; seeds: those that have diverged in none of the arms that are compared"
    if verdict and judged:
        columns += ["− dense", f"− {verdict.control or 'control'}", "verdict"]
    if any(r.only_alone for r in judged.values()):
        caption += "; alone: judged by itself, not among all rounds"
    rows = []
    for index, those in shared.items():
        here = [record for record in records if record.round == index]
        trunk = trunk_of(here)
        left = mean_left(trunk)
        cells = [str(index), f"{left:.4g}", *([sparse_in_short(trunk)] if told else [])]
        cells += [f"{len(those)} of {len(seeds)}"] if lost else []
        cells += [mean_accuracy([record for record in dense if record.seed in those])] if dense else []
        cells += [_of_arm([record for record in here if record.arm == arm], those, left) for arm in arms]
        if judged:
            cells += _judged(judged.get(index))
        rows.append(Row(cells, index in judged and judged[index].wins == "yes"))
    return RoundsTable(stored.name, caption, columns, rows)


def _of_arm(records: Sequence[Record], seeds: Collection[int], left: float) -> str:
    """The mean of an arm in a round over those of the seeds with which it has not diverged, and what else it did.

    `left` is what the row says of the weights, in percent; an arm that has others left says so.
    """
    counted = [record for record in records if record.seed in seeds and not record.diverged]
    diverged = sum(record.diverged for record in records)
    if diverged and not counted:
        return "diverged"
    notes = [f"{diverged} diverged"] if diverged else []
    notes += [f"of {len(counted)} seeds"] if len(counted) < len(seeds) else []
    notes += [f"{own:.3g} % left"] if counted and abs((own := mean_left(counted)) / left - 1) > _ALIKE else []
    notes += ["constant"] if counted and all(record.constant for record in counted) else []
    return ", ".join([mean_accuracy(counted), *notes])


def conclusions(stored: Stored, verdict: Verdict | None) -> list[str]:
    """The verdict on a run in sentences; none without the arm `winning`."""
    if verdict is None:
        return []
    told = []
    if more := stored.settings.more_than_dense:
        told.append(f"Not of equal length: {longer_in_words(more)}.")
    if stored.origin:
        for judged in verdict.rounds:
            control = verdict.control or "a control"
            parts = f"matches dense: {judged.matching}; beats {control}: {judged.beats_control}; wins: {judged.wins}"
            told.append(f"The ticket on {stored.settings.dataset}: {parts}.")
            told.append(ticket_in_words(stored.records, judged.round))
    else:
        winning = _smallest([each for each in verdict.rounds if each.wins == "yes"])
        matching = _smallest([each for each in verdict.rounds if each.matching == "yes"])
        if winning is None:
            told.append("No winning ticket found.")
        for word, ticket in (("winning", winning), ("matching", matching)):
            if ticket:
                told.append(f"Smallest {word} ticket: {100 * ticket.density:.3g} % of the weights.")
            if ticket and (word == "winning" or ticket != winning):
                told.append(ticket_in_words(stored.records, ticket.round))
    told.append(f"Evidence: {verdict.evidence}.")
    told += verdict.remarks
    if verdict.control is None:
        told.append("No control arm: whether a ticket wins stays undecided (add reinit to --arms).")
    if verdict.diverged:
        told.append(f"Diverged: {', '.join(verdict.diverged)}.")
    return [sentence for sentence in told if sentence]


def _smallest(rounds: Sequence[RoundVerdict]) -> RoundVerdict | None:
    return min(rounds, key=lambda each: each.density, default=None)


def _judged(verdict: RoundVerdict | None) -> list[str]:
    if verdict is None:
        return ["", "", ""]
    word = in_words(verdict.matching, verdict.wins) + (" (wins alone)" if verdict.only_alone else "")
    return [_points(verdict.against_dense), _points(verdict.against_control), word]


def _points(difference: Difference | None) -> str:
    """A difference in percentage points with half its interval."""
    if difference is None:
        return "–"
    half = "?" if difference.half is None else f"{100 * difference.half:.2f}"
    return f"{100 * difference.mean:+.2f} ± {half}"
