"""What a person sees of a study that tunes: each arm at its own best, and what is odd about it."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from lottery_ticket.cli.say import Console
from lottery_ticket.study.definition import Study
from lottery_ticket.study.names import VALIDATION
from lottery_ticket.study.trials import Trial
from lottery_ticket.study.tuning import Gap, Tuned, compared_with


def accuracy_in_words(trial: Trial) -> str:
    """What came of a trial that is not judged."""
    return f"validation accuracy {100 * trial.measures[VALIDATION]:.2f} %, the mean of all arms"


def table_by_accuracy(name: str, study: Study, trials: Sequence[Trial]) -> Table:
    """The trials of a study that is not judged, in order of the values."""
    caption = "mean validation accuracy of all arms and seeds in their last rounds; * = the best"
    table = Table(title=f"study {name}", caption=caption)
    for column in ("trial", *study.space, "validation"):
        table.add_column(column, justify="right")
    for trial in trials:
        values = [_short(trial.params[each]) for each in study.space]
        table.add_row(f"{trial.number}{'*' * trial.best}", *values, f"{100 * trial.measures[VALIDATION]:.2f}")
    return table


def print_tuned(console: Console, study: Study, tuned: Sequence[Tuned]) -> None:
    """The table, which choices are not bracketed, and which trials do not count for an arm."""
    if not tuned:
        told = ", ".join(f"{pct:g}" for pct in study.densities)
        console.print(f"No arm has a best yet: no trial has a round near {told} % of the weights.", soft_wrap=True)
        return
    settings = study.settings_of({})
    caption = (
        f"accuracies in %, means over {len(settings.seeds)} seed(s); differences in points, paired by seed, with "
        f"{100 * settings.verdict_level:g} % intervals; chosen by validation accuracy, the last columns by test "
        "accuracy: the most that an arm has at any value; ! = not bracketed"
    )
    table = Table(title=f"each arm at its own best {', '.join(study.tune)}", caption=caption)
    groups, less = list(tuned[0].group), f"{compared_with(settings.arms)} − arm"
    for name in (*groups, "% left", "arm", *study.tune, "validation", "test", less):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for name in (*study.tune, "test", less):
        table.add_column(f"any: {name}", justify="right")
    for row in tuned:
        values = [row.group[name] for name in groups]
        best, most = row.best, row.at_any
        table.add_row(
            *map(_short, values),
            f"{best.left:.3g}" if best else f"about {row.pct:g}",
            row.arm,
            *(_short(best.trial.params[name]) + "!" * (name in row.at_edge) if best else "none" for name in study.tune),
            *((f"{100 * best.validation:.2f}", f"{100 * best.test:.2f}") if best else ("", "")),
            _gap(row.behind),
            *(_short(most.trial.params[name]) if most else "none" for name in study.tune),
            f"{100 * most.test:.2f}" if most else "",
            _gap(row.behind_any),
            end_section=row.arm == tuned[-1].arm,
        )
    console.print(table)
    for row in tuned:
        for name, edge in row.at_edge.items():
            assert row.best is not None
            value = _short(row.best.trial.params[name])
            far = "the only one" if edge == "only" else f"the {edge}"
            console.print(f"Not bracketed: {_where(row)} {name} {value}, {far} that was tried.", soft_wrap=True)
        if len(row.candidates) < row.trials:
            told = f"{row.trials - len(row.candidates)} of {row.trials} trials"
            console.print(f"Left out: {_where(row)} {told}, where not all seeds got there.", soft_wrap=True)


def _where(row: Tuned) -> str:
    group = "".join(f", {name} {_short(value)}" for name, value in row.group.items())
    return f"{row.arm} at {row.best.left if row.best else row.pct:.3g} %{group}:"


def _gap(gap: Gap | None) -> str:
    if gap is None:
        return ""
    spread = f" ({100 * gap.interval[0]:+.2f} to {100 * gap.interval[1]:+.2f})" if gap.interval else ""
    return f"{100 * gap.mean:+.2f}{spread}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
