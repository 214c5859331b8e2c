"""What a user's own evaluation returned, understood: a score as an accuracy from 0 to 1, and what else it measured."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from lottery_ticket.errors import InputError
from lottery_ticket.store.rounds import OWN_METRICS


class Score(NamedTuple):
    """The number that is judged: its name, and what it is at its worst and at its best.

    It is brought to 0 (worst) … 1 (best) in a straight line, so that differences of it stay in proportion; what is
    worse than the worst counts as the worst. With the default range, of a fraction, that is refused.
    """

    name: str = "test_accuracy"
    worst: float = 0.0
    best: float = 1.0

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a fraction of examples that are right."""
        return self == Score()

    def __str__(self) -> str:
        return f"{self.name} from {self.worst!r} to {self.best!r}"


@dataclass(frozen=True)
class Measured:
    """An evaluation.

    Attributes:
        accuracy: the score, 0–1.
        test_loss, validation_loss, validation_accuracy: as told, else None.
        correct: for each example whether it is right, bool; empty where that is not told.
        others: all other numbers that were told, the score as it was told among them if it is no accuracy.
        diverged: whether a loss, or of a network whose weights are not finite the score, is not finite.
    """

    accuracy: float
    test_loss: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    correct: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    others: dict[str, float] = field(default_factory=dict)
    diverged: bool = False


def check_score(given: Any) -> Score:
    """The score that a user asked for; InputError where it is none."""
    allowed = 'allowed: (name, worst, best), as ("bleu", 0, 100) or ("endpoint_error", 20, 0)'
    try:
        name, worst, best = given
        score = Score(str(name), float(worst), float(best))
    except (TypeError, ValueError):
        raise InputError("score", given, f"is no score; {allowed}") from None
    if not (math.isfinite(score.worst) and math.isfinite(score.best) and score.worst != score.best):
        raise InputError("score", given, f"has no range; {allowed}")
    if score.name == "test_accuracy" and not score.is_accuracy:
        raise InputError("score", given, "is no accuracy, a fraction from 0 to 1; allowed: another name for it")
    if score.name != "test_accuracy":
        check_name(score.name, "score")
    return score


def understand(told: Any, score: Score, finite: bool) -> Measured:
    """What `evaluate` returned.

    Args:
        told: a number, or a mapping of names to numbers.
        score: which number is judged.
        finite: whether the network's weights are.

    Raises:
        InputError: it is no such thing, or a number in it cannot be.
    """
    if not isinstance(told, Mapping):
        told = {score.name: told}
    rest = dict(told)
    correct = _bits(rest.pop("correct")) if "correct" in rest else None
    if correct is not None and not score.is_accuracy:
        why = f"says which examples are right, whose mean is no {score.name}; allowed: another name, or no score="
        raise InputError("evaluate", "correct", why)
    if correct is not None:
        share = float(correct.mean())
        if abs(number(rest.get(score.name, share), score.name) - share) > 1e-4:
            why = f"is not the mean of 'correct', {share:.6g}; allowed: that, or one of the two"
            raise InputError("evaluate", {score.name: rest[score.name]}, why)
        rest[score.name] = share
    if score.name not in rest:
        why = f"has no {score.name!r}" + (" and no 'correct'" if score.is_accuracy else "")
        raise InputError("evaluate", list(map(str, told)), f"{why}; allowed: a number, or a mapping with it")
    values = {str(name): number(value, str(name)) for name, value in rest.items()}
    raw = values.pop(score.name)
    losses = {name: values.pop(name, None) for name in ("test_loss", "validation_loss", "validation_accuracy")}
    for name in values:
        check_name(name, "evaluate")
    diverged = any(value is not None and not math.isfinite(value) for value in losses.values())
    if not math.isfinite(raw):
        if finite:
            why = f"is no {score.name}, and all weights are finite; allowed: a number"
            raise InputError("evaluate", raw, f"{why} from {score.worst:g} (worst) to {score.best:g} (best)")
        diverged = True
    others = {name: value for name, value in values.items() if math.isfinite(value)}
    if not score.is_accuracy and math.isfinite(raw):
        others[score.name] = raw
    return Measured(
        _scaled(raw, score),
        **losses,
        correct=correct if correct is not None else np.zeros(0, bool),
        others=others,
        diverged=diverged,
    )


def number(value: Any, name: str, option: str = "evaluate") -> float:
    """A number of Python, NumPy or torch as float; InputError where it is none."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and math.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        why = f"of type {type(value).__name__} is no number for {name!r}; allowed: a float"
        raise InputError(option, value, why + ", or a mapping of names to floats" if name == "test_accuracy" else why)
    return float(value)


def _scaled(raw: float, score: Score) -> float:
    """The score as 0 … 1."""
    if not math.isfinite(raw):
        return 0.0
    share = (raw - score.worst) / (score.best - score.worst)
    if share > 1 + 1e-9 or (share < -1e-9 and score.is_accuracy):
        allowed = f"allowed: {score.worst:g} (worst) to {score.best:g} (best)"
        more = (
            ', or score=(name, worst, best) for a score that is none, as ("bleu", 0, 100)' if score.is_accuracy else ""
        )
        raise InputError("evaluate", raw, f"is no {score.name}; {allowed}{more}")
    return min(1.0, max(0.0, share))


def _bits(value: Any) -> np.ndarray:
    """Per-example correctness as N bool."""
    bits = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if bits.ndim != 1 or bits.dtype != bool or not len(bits):
        found = f"{bits.dtype} of shape {bits.shape}"
        raise InputError("evaluate", "correct", f"is {found}; allowed: one bool for each test example, in one order")
    return np.array(bits)


def check_name(name: str, option: str) -> None:
    """InputError for a name that MLflow does not take, or that a metric of this package's has."""
    fits = len(name) <= 200 and re.fullmatch(r"\w[\w .-]*(/\w[\w .-]*)*", name, re.ASCII)
    if not fits or name.partition("/")[0] in OWN_METRICS:
        allowed = "allowed: letters, digits, _ - . / and space, and no name of a metric of lt's own"
        raise InputError(option, name, f"cannot be the name of a metric; {allowed}")
