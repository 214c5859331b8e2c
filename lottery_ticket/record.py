"""What is kept of a finished round in numbers: one JSON document, `round.json`."""

import base64
import math
from collections.abc import Collection, Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _finite(value: object) -> object:
    """NaN and infinity become None: JSON has no word for them."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Finite = Annotated[float | None, BeforeValidator(_finite)]


class Point(BaseModel):
    """One evaluation during a round; losses are mean cross-entropies (None = not finite, or no validation set).

    Attributes:
        iteration: optimiser steps done since iteration 0 of a round, those before a late rewinding's θₖ included.
        epoch: epochs done (1 …) where this is the end of one, that at which the round ends counted as a whole one,
            else None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    iteration: int
    epoch: int | None
    validation_loss: Finite
    validation_accuracy: Finite
    test_loss: Finite
    test_accuracy: float


class Both(NamedTuple):
    """Multiply-adds with all weights, and with the survivors alone."""

    dense: int
    sparse: int


Counting = Literal["computed", "sparse"]
"""Which multiply-adds of training count: as it was done, or over survivors alone, whatever it was done with."""


class Cost(BaseModel):
    """The multiply-adds of a round, as `lottery_ticket.models.cost` counts them; evaluations are not among them.

    Attributes:
        images: how many were trained on, each as often as it was.
        inference: parameter → those of one image's forward pass.
        training: parameter → those of one image in training, forwards and of the gradients; where the mask changed in
            the round, the mean over its images.
        computed: of the whole round as it was done: over survivors alone where `Record.sparse` says so, else dense,
            and with the gradients that the criterion asked for at its end.
        to_find: what the mask has cost: `computed` of the rounds before this one, the dense one among them, of the
            trajectory that the mask comes from; of the dense one alone where pruning is one-shot, and at initialisation
            the scoring. None where that is not known.
        compact: of one image's forward pass once the trained network is made small; None where it was not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    inference: dict[str, Both]
    training: dict[str, Both]
    computed: int
    to_find: int | None = None
    compact: int | None = None

    def made_compact(self, weights: Mapping[str, tuple[int, int]]) -> "Cost":
        """With what is left once the network is made small: its tensors → their weights before and after."""
        left = {name: weights.get(name, (1, 1)) for name in self.inference}
        compact = sum(count.dense * left[name][1] // left[name][0] for name, count in self.inference.items())
        return self.model_copy(update={"compact": compact})

    @property
    def found_with(self) -> int | None:
        """What the mask of the next round has cost, in a trajectory that finds its own."""
        return None if self.to_find is None else self.to_find + self.computed

    def spent(self, sparse: Collection[str]) -> int | None:
        """What this round's network has cost, the scoring for the next one's mask left out; `sparse` as of the record.

        None where `to_find` is not known.
        """
        return None if self.found_with is None else self.found_with - self.scored(sparse)

    def scored(self, sparse: Collection[str]) -> int:
        """What of `computed` were the gradients that a criterion asked for; `sparse` as of the record."""
        an_image = sum(each.sparse if name in sparse else each.dense for name, each in self.training.items())
        return self.computed - self.images * an_image

    @property
    def an_image(self) -> Both:
        """Those of one image's forward pass, over all parameters."""
        return _summed(self.inference)

    @property
    def round(self) -> Both:
        """Those of the whole round's training, over all parameters."""
        dense, sparse = _summed(self.training)
        return Both(self.images * dense, self.images * sparse)


def _summed(counts: Mapping[str, Both]) -> Both:
    return Both(sum(each.dense for each in counts.values()), sum(each.sparse for each in counts.values()))


class Record(BaseModel):
    """The numbers of one finished round of one trajectory.

    Accuracies are fractions of the test set, 0–1; losses mean cross-entropies. `_best` is at the epoch of highest
    test accuracy (chosen on the test set); `_early_stop` at the evaluation of minimum validation loss
    (Frankle & Carbin 2019, section 2), None without a validation set and of a network that is not trained, whose
    `train_loss` is None too.

    Attributes:
        iterations: where the round ends, counted as in `Point`; it trained `iterations − begins_at`.
        begins_at: the iteration that its training went on from: k with late rewinding, else 0.
        density: survivors / prunable weights.
        densities, survivors: the same per prunable tensor, and counted.
        seconds, evaluation_seconds: wall time of the stack divided by the networks in it, and what of it went into
            evaluations (None before version 0.5).
        finished_at: milliseconds since 1970.
        correct: for each test image one bit, 1 where it is classed right; numpy.packbits in base64.
        diverged: a loss or weight stopped being finite in this round.
        majority: the part of the test images that are of the most frequent class, 0–1; None before version 0.4.
        constant: whether the trained network gives every test image the same scores; None before 0.4.
        sparse: the tensors that were trained over survivors alone; of others pruned weights were multiplied as zeros.
        connected: whether a path of surviving weights leads from the images to the scores; None before 0.4.
        cost: multiply-adds; None before version 0.5, of loops of a user's own, and of networks that cannot be counted.
        measured: what else was measured, by name; of loops of a user's own (`lottery_ticket.find`), where `majority`,
            `constant` and `connected` are not known and `correct` may be empty.

    Example:
        >>> record = lottery_ticket.load_run(run_id).rounds[-1]
        >>> record.arm, record.seed, record.round, record.iterations, record.survivors["fc1.weight"]
        ('reinit', 1, 1, 20, 188160)
        >>> 0 < record.test_accuracy < 1
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    seed: int
    round: int
    density: float
    densities: dict[str, float]
    survivors: dict[str, int]
    iterations: int
    begins_at: int = 0
    train_loss: Finite
    validation_loss: Finite
    test_loss: Finite
    test_accuracy: float
    test_loss_best: Finite
    test_accuracy_best: float
    best_epoch: int | None
    early_stop_iteration: int | None
    test_loss_early_stop: Finite
    test_accuracy_early_stop: Finite
    seconds: float
    finished_at: int
    diverged: bool
    test_size: int
    correct: str = Field(repr=False)
    curve: list[Point] = Field(repr=False)
    majority: float | None = None
    constant: bool | None = None
    connected: bool | None = None
    measured: dict[str, Finite] = {}
    sparse: tuple[str, ...] = ()
    evaluation_seconds: float | None = None
    cost: Cost | None = Field(default=None, repr=False)

    @property
    def sparsity(self) -> float:
        """1 − density."""
        return 1 - self.density

    @property
    def weights_remaining_pct(self) -> float:
        """100 × density."""
        return 100 * self.density

    @property
    def goes_on(self) -> bool:
        """Whether a trajectory with a mask of its own goes on after this round."""
        return not self.diverged and self.connected is not False

    @property
    def stop_censored(self) -> bool:
        """Whether the early-stopping point is the round's end: it would have come later, if at all."""
        return self.early_stop_iteration is not None and self.early_stop_iteration >= self.iterations

    @property
    def correct_bits(self) -> np.ndarray:
        """Which test images are classed right, N bool."""
        return np.unpackbits(np.frombuffer(base64.b64decode(self.correct), np.uint8), count=self.test_size).view(bool)


def pack_bits(bits: np.ndarray) -> str:
    """N bools as base64, one bit each."""
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def best_point(curve: list[Point]) -> Point:
    """The epoch of highest test accuracy, the first of them; where no epochs were counted, of all evaluations."""
    epochs = [point for point in curve if point.epoch is not None]
    return max(epochs or curve, key=lambda point: point.test_accuracy)


def early_stop_point(curve: list[Point]) -> Point | None:
    """The evaluation of minimum validation loss, the first of them; None where there is no finite one."""
    measured = [point for point in curve if point.validation_loss is not None]
    return min(measured, key=lambda point: point.validation_loss, default=None)  # type: ignore[arg-type, return-value]


Answer = Literal["yes", "no", "undecided"]


def nearest(left: Mapping[int, float], pct: float, within: float = math.inf) -> int | None:
    """The key whose percent of weights left is nearest to `pct`, in ratio; None where none is `within` that ratio."""
    found = min(left, key=lambda key: abs(math.log(left[key] / pct)), default=None)
    return found if found is not None and abs(math.log(left[found] / pct)) <= math.log(within) else None
