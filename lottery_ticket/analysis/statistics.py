"""What numbers show: means with their spread over seeds or test images, p-values, and corrections for many rounds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Spread:
    """A mean with its standard error; Student's t with so many degrees of freedom, normal where they are infinite."""

    mean: float
    error: float
    freedom: float = math.inf

    def interval(self, level: float) -> tuple[float, float]:
        """The two-sided confidence interval."""
        normal = math.isinf(self.freedom)
        quantile = special.ndtri((1 + level) / 2) if normal else special.stdtrit(self.freedom, (1 + level) / 2)
        half = float(quantile) * self.error
        return self.mean - half, self.mean + half

    def above(self, bound: float) -> float:
        """The one-sided p-value of lying above a bound: small where it does."""
        score = (bound - self.mean) / self.error
        return float(special.ndtr(score) if math.isinf(self.freedom) else special.stdtr(self.freedom, score))

    def below(self, bound: float) -> float:
        """The same of lying below."""
        return Spread(-self.mean, self.error, self.freedom).above(-bound)


def over_seeds(values: Sequence[float]) -> Spread | None:
    """Mean and t spread of one value for each seed.

    None where nothing is known of the spread: one seed, or seeds that all give the same. (Equal values say that the
    measure is too coarse, not that it is exact.)
    """
    found = np.asarray(values, dtype=float)
    if len(found) < 2 or np.ptp(found) <= 1e-9 * np.abs(found).max() + 1e-12:
        return None
    return Spread(float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found)), len(found) - 1)


def welch(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """The difference of two means over seeds that are not the same, ours minus theirs.

    Welch 1947 (Biometrika 34), degrees of freedom after Satterthwaite 1946 (Biometrics Bulletin 2). None where nothing
    is known of the spread: fewer than two seeds on a side, or both sides all alike.
    """
    sides = [np.asarray(side, dtype=float) for side in (ours, theirs)]
    if min(map(len, sides)) < 2:
        return None
    means = [float(side.mean()) for side in sides]
    parts = [float(side.var(ddof=1)) / len(side) for side in sides]
    if sum(parts) <= (1e-9 * max(map(abs, means)) + 1e-12) ** 2:
        return None
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True))
    return Spread(means[0] - means[1], math.sqrt(sum(parts)), freedom)


def over_images(ours: np.ndarray, theirs: np.ndarray) -> Spread:
    """The difference of two accuracies and its spread over the test images, which two pairs of networks share.

    Agresti & Min 2005 (Statistics in Medicine 24, "Simple improved confidence intervals for comparing matched
    proportions"): half an image added to each of the four cells, so that networks that agree on every image of a small
    test set are not taken for equal. With several seeds an image counts once, with its mean over seeds.

    Args:
        ours, theirs: seeds×N bool, which images are classed right.
    """
    gaps = ours.mean(0) - theirs.mean(0)
    count = len(gaps) + 2
    mean = float(gaps.sum()) / count
    return Spread(float(gaps.mean()), math.sqrt((float(np.square(gaps).sum()) + 1) / count - mean**2) / count**0.5)


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The two-sided p-value of McNemar's exact test (McNemar 1947) on which images are classed right; N bool each."""
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return min(1.0, 2 * float(special.bdtr(min(gained, lost), gained + lost, 0.5)))


def better_than(share: float, right: int, images: int) -> float:
    """The one-sided p-value of the exact binomial test: `right` of the images are more than that share of them."""
    return float(special.bdtrc(right - 1, images, share)) if right else 1.0


def half_of(p_values: Sequence[float]) -> float:
    """One p-value of several, small where at least half of them are, however they depend on each other.

    n/k times the k-th smallest, here the median: Rüger 1978, as in Vovk & Wang 2020 (Biometrika 107, "Combining
    p-values via averaging"), section 1.
    """
    k = math.ceil(len(p_values) / 2)
    return min(1.0, len(p_values) / k * sorted(p_values)[k - 1])


def false_discovery(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: of all that are at most α, a part α at most is expected to be false.

    Benjamini & Hochberg 1995 (JRSS B 57); holds for tests that depend on each other positively, as the rounds of a
    trajectory do, which share their dense networks (Benjamini & Yekutieli 2001, Annals of Statistics 29).
    """
    return _stepwise(p_values, lambda p, rank, count: p * count / rank, upwards=False)


def family_wise(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: that any at most α is false has probability α at most, however they depend on each other.

    Holm 1979 (Scandinavian Journal of Statistics 6).
    """
    return _stepwise(p_values, lambda p, rank, count: p * (count + 1 - rank), upwards=True)


def _stepwise(p_values: Sequence[float], scale: Callable[[float, int, int], float], upwards: bool) -> list[float]:
    """Scale each p-value by its rank (1 = least), and make the results increase with it."""
    order = np.argsort(p_values, kind="stable")
    scaled = [scale(p_values[index], rank, len(order)) for rank, index in enumerate(order, start=1)]
    monotone = np.maximum.accumulate(scaled) if upwards else np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(monotone, 1.0)
    return [float(p) for p in adjusted]
