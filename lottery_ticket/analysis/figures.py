"""Figures fit for a paper, drawn from the records of a run (and the masks, for the picture of the input)."""

import math
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from lottery_ticket.analysis.comparable import CONTROLS, comparable, dense_accuracy
from lottery_ticket.analysis.plots import BLUE, log_counts, log_percent, save_all, style, subplots
from lottery_ticket.masks import Mask
from lottery_ticket.record import Record, nearest

_CURVES_AT = (100.0, 41.0, 21.0, 10.0, 5.0)  # percent of weights left, as the densities Frankle & Carbin show
_PICTURES_AT = (41.0, 21.0, 10.0, 5.0)


def draw_all(
    records: Sequence[Record],
    name: str,
    folder: Path,
    mask: Callable[[int], Mask],
    image_shape: tuple[int, ...] | None,
    colours: Mapping[str, str],
    controls: Sequence[str] = CONTROLS,
) -> list[Path]:
    """Draw what the records allow into the folder; the paths, in order of interest.

    Args:
        records: rounds of all arms and seeds.
        name: the run's name, for the titles.
        folder: made if need be.
        mask: round → the winning arm's mask, of one seed.
        image_shape: of one image as the data set keeps it, (H, W), (H, W, C) or (D,); None = not known.
        colours: arm → colour.
        controls: the arms that winning tickets have to beat.
    """
    drawn: dict[str, Figure | None] = {}
    name = textwrap.fill(name, 60)
    with style():
        drawn["accuracy"] = draw_accuracy(records, name, colours, controls)
        drawn["multiply_adds"] = draw_multiply_adds(records, name, colours, controls)
        drawn["early_stop"] = draw_early_stop(records, name, colours, controls)
        drawn["learning_curves"] = draw_learning_curves(records, name, controls)
        drawn["survivors"] = draw_survivors(records, name)
        drawn["input_mask"] = draw_input_mask(records, name, mask, image_shape) if image_shape else None
        return save_all(drawn, folder)


def draw_accuracy(records: Sequence[Record], name: str, colours: Mapping[str, str], controls: Sequence[str]) -> Figure:
    """Test accuracy at the end of each round against percent of weights left, and the dense level."""
    figure, axes = subplots(figsize=(6, 4))
    lowest = _over_weights(axes, records, _accuracy, colours, controls)
    if (dense := dense_accuracy(records, controls)) is not None:
        axes.axhline(100 * dense, color="0.4", linestyle="--", linewidth=1, label=f"dense {100 * dense:.2f} %")
    axes.set(ylabel="test accuracy (%)", title=name, ylim=(max(0, lowest - 0.5), None))
    axes.legend(loc="lower left")
    return figure


def draw_multiply_adds(
    records: Sequence[Record], name: str, colours: Mapping[str, str], controls: Sequence[str]
) -> Figure | None:
    """Test accuracy against multiply-adds: of an image, and of all training up to the round; None where not known.

    Those of an image are over the survivors; of the winning arm's networks made small, too.
    """
    counted = [record for record in records if record.cost]
    if not counted:
        return None
    known = [record for record in counted if _up_to(record)]  # 0 of what is not trained has no logarithm
    panels = [("multiply-adds of an image, over survivors", _an_image, counted)]
    panels += [("multiply-adds of all training that led to the network", _up_to, known)] if known else []
    figure, (all_axes,) = subplots(1, len(panels), figsize=(1 + 5 * len(panels), 4), sharey=True, squeeze=False)
    lowest = math.inf
    for axes, (label, across, those) in zip(all_axes, panels, strict=True):
        lowest = min(lowest, _over(axes, those, across, _accuracy, colours, controls))
        log_counts(axes, [across(record) for record in those])
        axes.set_xlabel(label)
    image = all_axes[0]
    small = [each for each in comparable(counted, controls) if each.arm == "winning" and _made_small(each) is not None]
    if small:
        points = [
            [np.mean([value(each) for each in small if each.round == r]) for value in (_made_small, _accuracy)]
            for r in sorted({each.round for each in small})
        ]
        colour = colours.get("winning")
        image.plot(*np.transpose(points), "--", marker="o", mfc="none", color=colour, label="winning, made small")
    image.invert_xaxis()
    image.set(ylabel="test accuracy (%)", ylim=(max(0, lowest - 0.5), None))
    for axes in all_axes:
        axes.legend(loc="lower left")
    figure.suptitle(name)
    figure.tight_layout()
    return figure


def _accuracy(record: Record) -> float:
    return 100 * record.test_accuracy


def _an_image(record: Record) -> Any:
    return record.cost and record.cost.an_image.sparse


def _made_small(record: Record) -> Any:
    return record.cost and record.cost.compact


def _up_to(record: Record) -> Any:
    return record.cost and record.cost.spent(record.sparse)


def draw_early_stop(
    records: Sequence[Record], name: str, colours: Mapping[str, str], controls: Sequence[str]
) -> Figure | None:
    """Iteration of minimum validation loss against percent of weights left; None without a validation set."""
    measured = [record for record in records if record.early_stop_iteration is not None]
    if not measured:
        return None
    figure, axes = subplots(figsize=(6, 4))
    _over_weights(axes, measured, lambda record: float(record.early_stop_iteration or 0), colours, controls)
    counted = comparable(measured, controls)
    for arm in dict.fromkeys(record.arm for record in counted):
        mark_unreached(axes, [record for record in counted if record.arm == arm], colours.get(arm))
    axes.set(ylabel="early-stopping iteration", title=name, ylim=(0, None))
    axes.legend(loc="best")
    return figure


def mark_unreached(axes: Axes, records: Sequence[Record], colour: Any) -> None:
    """Mark an arm's rounds in which some seed's early stop had not come by the end: the mean is more than is drawn."""
    rounds = {record.round for record in records if record.stop_censored}
    mine = [[record for record in records if record.round == index] for index in sorted(rounds)]
    if mine:
        label = "at least: a stop had not come by the end"
        known = axes.get_legend_handles_labels()[1]
        axes.plot(
            [np.mean([record.weights_remaining_pct for record in each]) for each in mine],
            [np.mean([record.early_stop_iteration or 0 for record in each]) for each in mine],
            "^",
            color=colour or "black",
            markersize=7,
            label="" if label in known else label,
        )


def draw_learning_curves(records: Sequence[Record], name: str, controls: Sequence[str]) -> Figure:
    """Test accuracy within a round at a few densities: winning arm solid, control dashed; means over seeds."""
    records = comparable(records, controls) or records
    figure, axes = subplots(figsize=(6, 4))
    there = dict.fromkeys(record.arm for record in records)
    arms = [*dict.fromkeys(arm for arm in ("winning", *controls, *there) if arm in there)]
    shown = _nearest_rounds([r for r in records if r.arm == arms[0]], _CURVES_AT)
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(shown)))
    values = []
    for arm, line in zip(arms[:2], ("-", "--"), strict=False):
        for (r, pct), colour in zip(shown.items(), colours, strict=True):
            curves = [record.curve for record in records if record.arm == arm and record.round == r]
            if curves:
                steps = [point.iteration for point in curves[0]]
                curves = [curve for curve in curves if [point.iteration for point in curve] == steps]
                mean = np.mean([[100 * point.test_accuracy for point in curve] for curve in curves], axis=0)
                marker = "o" if len(steps) < 12 else None
                axes.plot(
                    steps,
                    mean,
                    line,
                    color=colour,
                    marker=marker,
                    markersize=3,
                    label=f"{arm} {pct:.3g} % left",
                )
                values += list(mean)
    low = max(0.0, np.percentile(values, 5) - 1)
    axes.set(xlabel="iteration within the round", ylabel="test accuracy (%)", title=name, ylim=(low, None))
    axes.legend(fontsize=7, ncols=2, handlelength=3.5)
    return figure


def draw_survivors(records: Sequence[Record], name: str) -> Figure:
    """Percent of weights left in each tensor against percent left in the network; winning arm, mean over seeds."""
    trunk = [r for r in records if r.arm == "winning"] or [r for r in records if r.arm == records[0].arm]
    figure, axes = subplots(figsize=(6, 4))
    rounds = sorted({record.round for record in trunk})
    count = len(trunk[0].densities)
    overall = [float(np.mean([100 * r.density for r in trunk if r.round == index])) for index in rounds]
    for width, tensor in enumerate(reversed(trunk[0].densities)):  # thinner on top: equal rates lie on one line
        left = [np.mean([100 * r.densities[tensor] for r in trunk if r.round == index]) for index in rounds]
        survivors = min(r.survivors[tensor] for r in trunk)
        label = f"{tensor} (at the end {survivors:,})"
        axes.plot(overall, left, linewidth=1.5 + 2.5 * (count - width) / count, label=label)
    log_percent(axes, "x", overall)
    log_percent(axes, "y", [100 * value for record in trunk for value in record.densities.values()])
    axes.set(ylabel="weights left in the tensor (%)", title=name)
    axes.legend()
    return figure


def draw_input_mask(
    records: Sequence[Record], name: str, mask: Callable[[int], Mask], image_shape: tuple[int, ...]
) -> Figure | None:
    """Surviving first-layer weights of each pixel, or of each column of a table; None where no layer sees them all."""
    trunk = [record for record in records if record.arm == "winning"]
    shown = _nearest_rounds(trunk, _PICTURES_AT) if trunk else {}
    shown = {r: pct for r, pct in shown.items() if r > 0}
    counted = [survivors_by_input(next(iter(mask(r).values())), image_shape) for r in shown]
    pictures = [picture for picture in counted if picture is not None]
    if not pictures:
        return None
    figure, axes = subplots(1, len(shown), figsize=(2.6 * len(shown), 2.9), squeeze=False)
    for panel, picture, pct in zip(axes[0], pictures, shown.values(), strict=True):
        panel.set(title=f"{pct:.3g} % left")
        if picture.ndim == 1:
            panel.stairs(picture, np.arange(len(picture) + 1) - 0.5, fill=True, color=BLUE)
            panel.set(xlabel="column", ylim=(0, None))
            continue
        drawn = panel.imshow(picture, cmap="magma", vmin=0)
        panel.set(xticks=[], yticks=[])
        panel.grid(visible=False)
        figure.colorbar(drawn, ax=panel, fraction=0.046, pad=0.03)
    figure.suptitle(f"{name}: surviving first-layer weights per {'column' if len(image_shape) == 1 else 'pixel'}")
    figure.tight_layout()
    return figure


def survivors_by_input(first: Tensor, image_shape: tuple[int, ...]) -> np.ndarray | None:
    """How many weights of a network's first layer survive at each pixel (H×W, channels summed) or column (D).

    None unless the mask is that of a fully connected layer over all values of an image, channels first.
    """
    if first.ndim != 2 or first.shape[1] != math.prod(image_shape):
        return None
    left = first.sum(0).numpy()
    return left if len(image_shape) == 1 else left.reshape(-1, *image_shape[:2]).sum(0)


def _over_weights(
    axes: Axes,
    records: Sequence[Record],
    value: Callable[[Record], float],
    colours: Mapping[str, str],
    controls: Sequence[str],
) -> float:
    """The arms as in `_over`, against percent of weights left; the lowest value."""
    lowest = _over(axes, records, lambda record: record.weights_remaining_pct, value, colours, controls)
    log_percent(axes, "x", [r.weights_remaining_pct for r in records])
    return lowest


def _over(
    axes: Axes,
    records: Sequence[Record],
    across: Callable[[Record], float],
    value: Callable[[Record], float],
    colours: Mapping[str, str],
    controls: Sequence[str],
) -> float:
    """Mean over seeds and min–max band of each arm, of one number against another; the lowest value.

    Over the seeds that can be compared; trainings that diverged are crosses at the bottom.
    """
    lowest, counted = math.inf, comparable(records, controls)
    for arm in dict.fromkeys(record.arm for record in records):
        colour, of = colours.get(arm), len({record.seed for record in records if record.arm == arm})
        if mine := [record for record in counted if record.arm == arm]:
            rounds = sorted({record.round for record in mine})
            places = [float(np.mean([across(r) for r in mine if r.round == index])) for index in rounds]
            values = [[value(r) for r in mine if r.round == index] for index in rounds]
            label = arm if of == 1 else f"{arm} (mean, min–max of {seeds_in_words([*map(len, values)], of)} seeds)"
            joined = rounds == list(range(rounds[0], rounds[-1] + 1)) and len(rounds) > 1
            style = "-" if joined else "none"
            mean = [np.mean(each) for each in values]
            (line,) = axes.plot(places, mean, linestyle=style, marker="o", markersize=3.5, color=colour, label=label)
            colour = line.get_color()
            if max(map(len, values)) > 1:
                low, high = [min(each) for each in values], [max(each) for each in values]
                if joined:
                    axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
                else:  # the rounds between were not trained
                    axes.vlines(places, low, high, color=colour, alpha=0.3, linewidth=4)
            lowest = min(lowest, *(min(each) for each in values))
        mark_diverged(axes, [across(r) for r in records if r.arm == arm and r.diverged], colour, arm)
    return lowest if math.isfinite(lowest) else 0.0


def seeds_in_words(counts: Collection[int], of: int) -> str:
    """How many of all seeds means rest on, from the fewest to the most: "5", "4 of 5", "3 to 5 of 5"."""
    fewest, most = min(counts), max(counts)
    if fewest == of:
        return f"{of}"
    return f"{most} of {of}" if fewest == most else f"{fewest} to {most} of {of}"


def mark_diverged(axes: Axes, places: Sequence[float], colour: Any, name: str) -> None:
    """Crosses at the bottom where trainings diverged."""
    if places:
        bottom = axes.get_xaxis_transform()
        axes.plot(places, [0.02] * len(places), "x", color=colour, transform=bottom, label=f"{name}, diverged")


def _nearest_rounds(records: Sequence[Record], percents: Sequence[float]) -> dict[int, float]:
    """The rounds whose percent of weights left is nearest (in ratio) to each of `percents`, and that percent."""
    left = {record.round: record.weights_remaining_pct for record in records}
    chosen = {nearest(left, pct) for pct in percents}
    return {r: left[r] for r in sorted(left) if r in chosen}
