"""A study's search space: in Optuna's terms, as a grid, and as the unit cube that samplers and surfaces work in."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from lottery_ticket.study.definition import Choices, Study, whole_numbers

Space = Mapping[str, FloatDistribution | IntDistribution]
"""Parameters that are ranges."""


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """The study's search space in Optuna's terms."""
    return {name: _distribution(name, searched) for name, searched in study.space.items()}


def ranges(study: Study) -> Space:
    """The parameters of the search space that are ranges."""
    found = distributions(study)
    return {name: each for name, each in found.items() if isinstance(each, FloatDistribution | IntDistribution)}


def grid(study: Study) -> dict[str, list[Any]]:
    """The values of each parameter on the study's grid."""
    values: dict[str, list[Any]] = {}
    for name, searched in study.space.items():
        if isinstance(searched, Choices):
            values[name] = list(searched.choices)
        else:
            assert searched.points is not None  # checked with the study's file
            spaced = np.geomspace if searched.log else np.linspace
            points = spaced(searched.low, searched.high, searched.points).tolist()
            points[0], points[-1] = searched.low, searched.high  # geomspace rounds
            values[name] = sorted({round(point) for point in points}) if whole_numbers(name) else points
    return values


def size(study: Study) -> int:
    """How many trials the study has: what its grid holds at most, where it is one."""
    return (
        min(study.trials, int(np.prod([len(each) for each in grid(study).values()])))
        if study.sampler == "grid"
        else study.trials
    )


def bounds(searched: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Where a range begins and ends in the unit cube: half a step outside of whole numbers, so that all are alike."""
    half = 0.5 if isinstance(searched, IntDistribution) else 0.0
    return searched.low - half, searched.high + half


def to_unit(space: Space, params: Mapping[str, Any]) -> np.ndarray:
    """Parameters as a point of the unit cube, on a log axis where their range has one."""
    point = []
    for name, searched in space.items():
        low, high, value = (np.log(v) if searched.log else v for v in (*bounds(searched), params[name]))
        point.append((value - low) / (high - low))
    return np.array(point, dtype=float)


def along(searched: FloatDistribution | IntDistribution, parts: Any) -> Any:
    """The value at a part (0–1) of a range, or the values at an array of parts; not rounded."""
    low, high = bounds(searched)
    return low * (high / low) ** parts if searched.log else low + parts * (high - low)


def from_unit(searched: BaseDistribution, part: float) -> Any:
    """A parameter's value at a part (0–1) of its range, or of its choices; the other way round."""
    if isinstance(searched, CategoricalDistribution):
        return searched.choices[min(int(part * len(searched.choices)), len(searched.choices) - 1)]
    assert isinstance(searched, FloatDistribution | IntDistribution)
    value = min(max(along(searched, part), searched.low), searched.high)
    return round(value) if isinstance(searched, IntDistribution) else value


def _distribution(name: str, searched: Any) -> BaseDistribution:
    if isinstance(searched, Choices):
        return CategoricalDistribution(searched.choices)
    if whole_numbers(name):
        return IntDistribution(int(searched.low), int(searched.high), log=searched.log)
    return FloatDistribution(searched.low, searched.high, log=searched.log)
