"""A source's figures drawn again, a panel for each variant, and the gap taken apart."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lottery_ticket.analysis.figures import Axes, Figure, colormaps, mark_diverged, mark_unreached, seeds_in_words
from lottery_ticket.analysis.plots import log_percent, looks_of, save_all, style, subplots
from lottery_ticket.method.arms import colours_of
from lottery_ticket.record import Record
from lottery_ticket.reproduction.claims import Experiments, Share, claimed_at, gaps_by_round, reported_at, value_of
from lottery_ticket.reproduction.definition import Attribution, Drawing, Part, Reproduction, setup_of

_MANY = 6
"""Sides whose legend finds room below the curves; that of more stands beside them."""


def draw_reproduction(
    reproduction: Reproduction, experiments: Experiments, attributions: Sequence[Sequence[Share]], folder: Path
) -> Mapping[str, Path]:
    """Draw everything of which there are rounds into the folder; the figures' names → paths, in the file's order."""
    drawn: dict[str, Figure | None] = {}
    with style():
        for drawing in reproduction.drawings:
            if there := [name for name in drawing.variants if _has_rounds(drawing, name, experiments)]:
                panels = drawing.model_copy(update={"variants": tuple(there)})
                drawn[drawing.name] = draw_rounds(panels, reproduction, experiments)
        for attribution, shares in zip(reproduction.attributions, attributions, strict=True):
            if shares:
                drawn[attribution.name] = draw_attribution(attribution, shares, reproduction, experiments)
        return dict(zip(drawn, save_all(drawn, folder), strict=True))


def _has_rounds(drawing: Drawing, variant: str, experiments: Experiments) -> bool:
    return any(experiments[setup_of(side) or drawing.setup, variant].records for side in drawing.sides)


def draw_rounds(drawing: Drawing, reproduction: Reproduction, experiments: Experiments) -> Figure:
    """A measure against percent of weights left: each seed thin, their mean, and the band they fill.

    Trainings that diverged are in neither, but crosses at the bottom. Beside it what the drawing's claims say: a hollow
    diamond where a gap that the source names puts a side, measured from the other one here (`claims.reported_at`),
    dotted the bounds over several rounds (`claims.claimed_at`).
    """
    count, many = len(drawing.variants), len(drawing.sides) > _MANY
    width = 1 + 4.2 * count + 3.6 * many
    figure, axes = subplots(1, count, figsize=(width, 4), sharey=True, squeeze=False)
    for panel, name in zip(axes[0], drawing.variants, strict=True):
        looks = _looks(drawing, reproduction.variants[name].control)
        one_arm = len(drawing.sides) > 1 and len({reproduction.arm_of(side, name) for side in drawing.sides}) == 1
        drawn: list[Record] = []
        for side in drawing.sides:
            setup, arm = setup_of(side) or drawing.setup, reproduction.arm_of(side, name)
            records = [record for record in experiments[setup, name].records if record.arm == arm]
            if not records:
                continue
            called = setup if one_arm else arm if side == "control" else side
            _curve(panel, records, called, looks[side], drawing.measure)
            drawn += records
        claimed = [part for claim in reproduction.claims if claim.id in drawing.claims for part in claim.parts]
        mine = [part for part in claimed if (part.setup, part.measure) == (drawing.setup, drawing.measure)]
        _draw_reported(panel, mine, name, looks, reproduction, experiments)
        _draw_claimed(panel, mine, name, looks, reproduction, experiments)
        log_percent(panel, "x", [record.weights_remaining_pct for record in drawn])
        panel.set_title(name, fontsize=10)
    axes[0][0].set_ylabel({"accuracy": "test accuracy (%)", "early_stop": "early-stopping iteration"}[drawing.measure])
    figure.suptitle(drawing.title)
    figure.tight_layout()  # of the panels: legends below them are beyond the figure, which is saved with them
    if many:
        axes[0][-1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    for panel in () if many else axes[0]:
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


def _looks(drawing: Drawing, control: str) -> dict[str, dict[str, Any]]:
    """How the sides are drawn: in their arms' colours, but where setups are compared, whose arms may be the same."""
    if any(map(setup_of, drawing.sides)):
        return looks_of(drawing.sides)
    arms = {side: control if side == "control" else side for side in drawing.sides}
    known = colours_of(list(arms.values()))
    return {side: {"color": known[arm], "marker": "o", "markersize": 3} for side, arm in arms.items()}


def _draw_reported(
    axes: Axes,
    parts: Sequence[Part],
    variant: str,
    looks: Mapping[str, dict[str, Any]],
    reproduction: Reproduction,
    experiments: Experiments,
) -> None:
    found = [reported_at(part, variant, reproduction, experiments) for part in parts]
    diamond: dict[str, Any] = {
        "marker": "D",
        "markersize": 7,
        "markerfacecolor": "none",
        "markeredgewidth": 1.5,
        "linestyle": "none",
    }
    for label, (side, pct, value) in enumerate(each for each in found if each and each[0] in looks):
        axes.plot(pct, value, color=looks[side]["color"], label="" if label else "by the source's gap", **diamond)


def _draw_claimed(
    axes: Axes,
    parts: Sequence[Part],
    variant: str,
    looks: Mapping[str, dict[str, Any]],
    reproduction: Reproduction,
    experiments: Experiments,
) -> None:
    """Bounds of what is measured over several rounds; where a side is only to be above or below another, from where."""
    told = set()
    for part in parts:
        if part.to_pct is None or part.of not in looks:
            continue
        for bound, word in ((part.above, "above"), (part.below, "below")):
            if bound is None:
                continue
            if bound == 0 and part.minus:
                names = [reproduction.arm_of(side, variant) for side in (part.of, part.minus)]
                label = f"claimed from here on: {names[0]} {word} {names[1]}"
                if label not in told:
                    axes.axvline(part.from_pct, color="0.4", linestyle=":", linewidth=1.2, label=label)
            elif line := claimed_at(part, bound, variant, reproduction, experiments):
                mean = ", in the mean over rounds" if part.take == "mean" else ""
                label = f"claimed: {reproduction.arm_of(part.of, variant)} {word}{mean}"
                colour = looks[part.of]["color"]
                axes.plot(list(line), list(line.values()), ":", color=colour, label="" if label in told else label)
            else:
                continue
            told.add(label)


def draw_attribution(
    attribution: Attribution, shares: Sequence[Share], reproduction: Reproduction, experiments: Experiments
) -> Figure:
    """The gap of each variant against percent of weights left, and its interval where it is read."""
    figure, (left, right) = subplots(1, 2, figsize=(11, 4.4), width_ratios=(1.25, 1))
    colours = colormaps["tab10"](range(len(shares)))
    everything: list[float] = []
    for share, colour in zip(shares, colours, strict=True):
        gaps = gaps_by_round(attribution, share, reproduction, experiments)
        left.plot(list(gaps), list(gaps.values()), color=colour, marker="o", markersize=2.5, linewidth=1.2)
        everything += gaps
    log_percent(left, "x", everything)
    left.axvline(attribution.at_pct, color="0.5", linestyle=":", linewidth=1)
    left.axhline(0, color="0.5", linewidth=0.8)
    several = any(len(share.gap.values) > 1 for share in shares)
    left.set_ylabel(f"winning − {attribution.minus} (points{', mean over seeds' if several else ''})")
    places = np.arange(len(shares))[::-1]
    for place, share, colour in zip(places, shares, colours, strict=True):
        right.barh(place, share.gap.mean, color=colour, alpha=0.75)
        if np.isfinite(share.gap.low):
            right.plot([share.gap.low, share.gap.high], [place, place], color="black", linewidth=1.2)
        right.plot(share.gap.values, [place] * len(share.gap.values), "o", color="black", markersize=2.5)
    right.set_yticks(places, [share.variant for share in shares])
    right.axvline(0, color="0.5", linewidth=0.8)
    right.grid(visible=False, axis="y")
    right.set_xlabel(f"winning − {attribution.minus} at {attribution.at_pct:g} % left (points)")
    figure.suptitle(attribution.title)
    figure.tight_layout()
    return figure


def _curve(axes: Axes, records: Sequence[Record], name: str, look: dict[str, Any], measure: str) -> None:
    """Each seed, and mean and band of those that have not diverged in a round."""
    rounds = sorted({record.round for record in records})
    seeds = sorted({record.seed for record in records})
    table = {(record.seed, record.round): record for record in records}
    for seed in seeds:
        mine = [table[seed, r] for r in rounds if (seed, r) in table]
        axes.plot(
            [record.weights_remaining_pct for record in mine],
            [math.nan if record.diverged else value_of(record, measure) for record in mine],
            color=look["color"],
            alpha=0.35,
            linewidth=0.7,
        )
    mark_diverged(axes, [r.weights_remaining_pct for r in records if r.diverged], look["color"], name)
    whole = [record for record in records if not record.diverged]
    here = [[record for record in whole if record.round == r] for r in sorted({record.round for record in whole})]
    if not here:
        return
    left = [float(np.mean([record.weights_remaining_pct for record in each])) for each in here]
    values = [[value_of(record, measure) for record in each] for each in here]
    label = name if len(seeds) == 1 else f"{name} ({seeds_in_words([*map(len, here)], len(seeds))} seeds)"
    axes.plot(left, [np.mean(each) for each in values], label=label, **look)
    if measure == "early_stop":
        mark_unreached(axes, whole, look["color"])
    low, high = [min(each) for each in values], [max(each) for each in values]
    axes.fill_between(left, low, high, color=look["color"], alpha=0.15, linewidth=0)
