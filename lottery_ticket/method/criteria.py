"""Criteria: what is pruned first. A new criterion is one function here, from evidence to scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lottery_ticket import plugins
from lottery_ticket.engine.gradients import Gradients
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.masks import Mask, Weights
from lottery_ticket.randomness import generator

PER_CLASS = 10
"""Images of each class that SNIP and GraSP look at, as in Frankle et al. 2021 (arXiv 2009.08576)."""

FISHER_PER_CLASS = 50
"""Images of each class whose own gradients are squared: one at a time, they take a quarter of an epoch of fc1."""

TEMPERATURE = 200.0
"""By what GraSP divides the scores, in its authors' code: it looks at the network before it has an opinion."""


@dataclass(frozen=True)
class Evidence:
    """What a criterion may draw on when a mask is made; all tensors are on the CPU.

    Attributes:
        weights: the parameters and buffers that are judged, pruned ones zero: trained, or where pruning is at
            initialisation, as they start, no step taken.
        start: the values that the round's training started from.
        initial: θ₀ of the trajectory, whatever it is rewound to; of an arm that draws its values, `start`.
        mask: the survivors so far.
        seed, round: of the trajectory; of the training that gave the weights.
        images: how many images are trained on.
        labels: their classes, as many whole numbers; none where nobody knows.
        gradients: `gradients(weights, images=None)` is the gradient of the mean cross-entropy over the training images
            with these indices (default: all), at any values of the parameters, the pruned ones taken as zero: trained
            parameter → tensor of its shape, pruned weights' too. Also Hessian products and squared gradients, see
            `lottery_ticket.engine.gradients`. A criterion that never calls it costs nothing.
    """

    weights: Weights = field(repr=False)
    start: Weights = field(repr=False)
    initial: Weights = field(repr=False)
    mask: Mask = field(repr=False)
    seed: int
    round: int
    images: int
    labels: Tensor = field(repr=False)
    gradients: Gradients = field(repr=False)

    def balanced(self, per_class: int) -> list[int]:
        """Indices of so many training images of each class, or of as many as the rarest has, drawn for the seed.

        In random order, so that batches that they are cut into, by which normalisation goes, are not of few classes.
        """
        drawn = torch.randperm(len(self.labels), generator=generator(self.seed, "balanced", self.round))
        there = [drawn[self.labels[drawn] == label] for label in self.labels.unique()]
        each = min([per_class, *map(len, there)])
        chosen = {int(index) for own in there for index in own[:each]}
        return [index for index in drawn.tolist() if index in chosen]

    def noise(self) -> Weights:
        """Prunable tensor → uniform random numbers of its shape, 0–1, of this seed and round."""
        source = generator(self.seed, "criterion", self.round)
        return {name: torch.rand(kept.shape, generator=source) for name, kept in self.mask.items()}


class Criterion(NamedTuple):
    """A criterion.

    Attributes:
        scores: from the evidence to prunable tensor → scores of its shape, finite where a weight survives. The lowest
            go first, whatever their sign.
        pruning: when it is meant to be asked: of trained weights ("iterative") or at initialisation ("init").
        steps: in how many steps the weights go, each judged anew.
        needs_training: it compares trained weights with those before, and has nothing to say at initialisation.
    """

    scores: Callable[[Evidence], Mapping[str, Tensor]]
    pruning: Literal["iterative", "init"] = "iterative"
    steps: int = 1
    needs_training: bool = False


def _magnitude(at: Evidence) -> Weights:
    """|w|. Frankle & Carbin 2019, section 1; Han et al. 2015. Zhou et al.'s large_final."""
    return {name: at.weights[name].abs() for name in at.mask}


def _magnitude_init(at: Evidence) -> Weights:
    """|θ₀|. Frankle & Carbin 2019, appendix F; Zhou et al. 2019 (arXiv 1905.01067), section 3: large_init."""
    return {name: at.initial[name].abs() for name in at.mask}


def _magnitude_increase(at: Evidence) -> Weights:
    """|w| − |θ₀|. Zhou et al. 2019, section 3."""
    return {name: at.weights[name].abs() - at.initial[name].abs() for name in at.mask}


def _movement(at: Evidence) -> Weights:
    """|w − θ₀|. Zhou et al. 2019, section 3."""
    return {name: (at.weights[name] - at.initial[name]).abs() for name in at.mask}


def _large_init_large_final(at: Evidence) -> Weights:
    """The lower of the ranks of |θ₀| and |w|: both are to be among the largest. Zhou et al. 2019, section 3."""
    return {
        name: torch.minimum(_rank(at.initial[name].abs(), kept), _rank(at.weights[name].abs(), kept))
        for name, kept in at.mask.items()
    }


def _small_init_small_final(at: Evidence) -> Weights:
    """The lower of the ranks of −|θ₀| and −|w|: both are to be among the smallest. Zhou et al. 2019, section 3."""
    return {
        name: torch.minimum(_rank(-at.initial[name].abs(), kept), _rank(-at.weights[name].abs(), kept))
        for name, kept in at.mask.items()
    }


def _where_sign(scores: Callable[[Evidence], Weights], same: bool) -> Callable[[Evidence], Weights]:
    """Scores where w has the sign of θ₀ (or has not), elsewhere 0, ranked at random. Zhou et al. 2019, supplement."""

    def signed(at: Evidence) -> Weights:
        given, noise = scores(at), at.noise()
        agree = {name: (at.weights[name].sign() == at.initial[name].sign()) == same for name in at.mask}
        return {name: given[name].where(agree[name], -1e-30 * noise[name]) for name in at.mask}

    return signed


def _random(at: Evidence) -> Weights:
    """Random numbers. Zhou et al. 2019, section 3; Frankle et al. 2021 (arXiv 2009.08576), section 3."""
    return at.noise()


def _gradient(at: Evidence) -> Weights:
    """|∂L/∂w| over all training images. Zhou et al. 2019's code: grad, at θ₀."""
    return {name: value.abs() for name, value in at.gradients(at.weights).items() if name in at.mask}


def _snip(at: Evidence) -> Weights:
    """|∂L/∂m| = |∂L/∂w · w|, m the mask, over ten images a class. Lee et al. 2019 (arXiv 1810.02340), section 4.1.

    In several steps: de Jorge et al. 2021 (arXiv 2006.09081), iterative SNIP.
    """
    gradients = at.gradients(at.weights, at.balanced(PER_CLASS))
    return {name: (gradients[name] * at.weights[name]).abs() for name in at.mask}


def _grasp(at: Evidence) -> Weights:
    """w · Hg, over ten images a class: what most hinders the flow of gradients goes.

    Wang, Zhang & Grosse 2020 (arXiv 2002.07376), section 4, whose score is −w · Hg and whose highest go. g is of all
    these images, and so is H: products batch by batch would be of other gradients. It is of survivors alone: nothing
    flows to what is pruned.
    """
    images = at.balanced(PER_CLASS)
    gradients = at.gradients(at.weights, images, TEMPERATURE)
    g = {name: gradients[name] * kept for name, kept in at.mask.items()}
    product = at.gradients.hessian(at.weights, g, images, TEMPERATURE)
    return {name: at.weights[name] * product[name] for name in at.mask}


def _synflow(at: Evidence) -> Weights:
    """|w| · ∂R/∂|w|, R = Σ scores of an image of ones under the absolute weights, in float64.

    Tanaka, Kunin, Yamins & Ganguli 2020 (arXiv 2006.05467), section 6.
    """
    flow = at.gradients.flow(at.weights)
    return {name: flow[name] * at.weights[name].abs() for name in at.mask}


def _taylor(at: Evidence) -> Weights:
    """|∂L/∂w · w| over all training images: to first order, by what the loss changes without w.

    Molchanov et al. 2017 (arXiv 1611.06440), section 2.2, for single weights.
    """
    gradients = at.gradients(at.weights)
    return {name: (gradients[name] * at.weights[name]).abs() for name in at.mask}


def _fisher(at: Evidence) -> Weights:
    """½ F w², F the mean squared gradient of single images: by what the loss grows without w, to second order.

    LeCun, Denker & Solla 1990 (optimal brain damage), with the Hessian's diagonal as Theis et al. 2018
    (arXiv 1801.05787) have it.
    """
    fisher = at.gradients.squared(at.weights, at.balanced(FISHER_PER_CLASS))
    return {name: fisher[name] * at.weights[name].square() / 2 for name in at.mask}


def _rank(values: Tensor, kept: Tensor) -> Tensor:
    """The places of the surviving values in their order, lowest first, as fractions of their number."""
    order = torch.zeros(kept.shape, dtype=torch.float64)
    order[kept] = values[kept].argsort(stable=True).argsort().double() / int(kept.sum())
    return order


CRITERIA = {
    "magnitude": Criterion(_magnitude),
    "magnitude-init": Criterion(_magnitude_init, pruning="init"),
    "magnitude-increase": Criterion(_magnitude_increase, needs_training=True),
    "movement": Criterion(_movement, needs_training=True),
    "large-init-large-final": Criterion(_large_init_large_final, needs_training=True),
    "small-init-small-final": Criterion(_small_init_small_final, needs_training=True),
    "magnitude-same-sign": Criterion(_where_sign(_magnitude, True), needs_training=True),
    "magnitude-diff-sign": Criterion(_where_sign(_magnitude, False), needs_training=True),
    "magnitude-increase-same-sign": Criterion(_where_sign(_magnitude_increase, True), needs_training=True),
    "magnitude-increase-diff-sign": Criterion(_where_sign(_magnitude_increase, False), needs_training=True),
    "random": Criterion(_random, pruning="init"),
    "gradient": Criterion(_gradient, pruning="init"),
    "snip": Criterion(_snip, pruning="init"),
    "grasp": Criterion(_grasp, pruning="init"),
    "synflow": Criterion(_synflow, pruning="init", steps=100),
    "taylor": Criterion(_taylor),
    "fisher": Criterion(_fisher),
}


def criterion_named(name: str) -> Criterion:
    """The criterion of that name, ours or a guest's; InputError where there is none."""
    found = plugins.named("criteria", name, CRITERIA, "--criterion")
    if not isinstance(found, Criterion):
        raise plugins.unfit("--criterion", name, found, "a lottery_ticket.method.Criterion")
    return found


def scores_by(name: str, at: Evidence, inverted: bool = False) -> Weights:
    """The scores of a criterion, float32 (float64 where they are); LotteryTicketError where they cannot rank survivors.

    Where they are `inverted`, what the criterion would keep longest goes first.
    """
    given = criterion_named(name).scores(at)
    if missing := sorted(at.mask.keys() - given.keys()):
        raise LotteryTicketError(f"the criterion {name} gives no scores of {', '.join(missing)}")
    scores = {}
    for tensor, kept in at.mask.items():
        score = torch.as_tensor(given[tensor]).detach().cpu()
        score = score if score.dtype == torch.float64 else score.float()
        if score.shape != kept.shape:
            shapes = f"{tuple(score.shape)} of {tensor}, whose shape is {tuple(kept.shape)}"
            raise LotteryTicketError(f"the criterion {name} gives scores of shape {shapes}")
        if not score[kept].isfinite().all():
            raise LotteryTicketError(f"the criterion {name} gives scores of {tensor} that are not finite")
        scores[tensor] = -score if inverted else score
    return scores
