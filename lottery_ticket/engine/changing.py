"""Masks that change while a stack is trained: gradual magnitude pruning, SET and RigL.

All weights are multiplied, pruned ones as zeros, so that every change is a new mask and nothing else. Weights that grow
begin at zero, without moments in the optimiser.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lottery_ticket.config import Settings
from lottery_ticket.engine.job import Changed, Member
from lottery_ticket.masks import Mask, strongest
from lottery_ticket.randomness import generator

UNTIL = 0.75
"""Where in a round masks stop changing if it is not said: Evci et al. 2020 (arXiv 1911.11134), section 4 and code."""


@dataclass(frozen=True)
class When:
    """The iterations after which masks change: every so many from `first` on, before `until`."""

    first: int
    every: int
    until: int

    @classmethod
    def told(cls, settings: Settings, total: int) -> "When":
        """As settings in iterations say, for rounds of `total` iterations."""
        until = max(1, round(UNTIL * total)) if settings.mask_until is None else settings.mask_until
        return cls(settings.mask_from, settings.mask_every, until)

    def regular(self, iteration: int) -> bool:
        """Whether masks change after this iteration."""
        return self.first < iteration < self.until and (iteration - self.first) % self.every == 0

    def left(self, size: int, target: int, iteration: int) -> int:
        """How many of `size` weights gradual pruning leaves after an iteration, `target` from `until` on.

        The cubic schedule of Zhu & Gupta 2017 (arXiv 1710.01878), section 3, to the nearest weight.
        """
        done = min(1.0, max(0.0, (iteration - self.first) / (self.until - self.first)))
        return target + round((size - target) * (1 - done) ** 3)

    def fraction(self, alpha: float, iteration: int) -> float:
        """The part of the weights that goes after an iteration: annealed by a cosine from alpha to 0 at `until`.

        Evci et al. 2020 (arXiv 1911.11134), section 3 (2).
        """
        return alpha / 2 * (1 + math.cos(math.pi * iteration / self.until))


def regrown(weights: Tensor, kept: Tensor, score: Tensor, fraction: float) -> Tensor:
    """A mask of as many weights: the smallest go, as many grow where the score is highest, where one just went too.

    Evci et al. 2020 (arXiv 1911.11134), algorithm 1; Mocanu et al. 2018 (arXiv 1707.04780), algorithm 1, with
    random scores.

    Args:
        weights: of one tensor.
        kept: its mask, bool.
        score: of each weight, how much it is wanted.
        fraction: of the survivors that goes, rounded down.
    """
    count = int(kept.sum())
    going = int(fraction * count)
    stay = strongest(_finite(weights.abs()), kept, count - going)
    return stay | strongest(_finite(score), ~stay, going) if going else kept.clone()


def _finite(scores: Tensor) -> Tensor:
    """Of a network that has diverged, scores that can be ranked."""
    return scores.nan_to_num(nan=torch.inf, posinf=torch.inf)


def begun_under(member: Member) -> Mask:
    """The mask outside of which a member's weights are zero when its training begins."""
    if member.how != "gmp" and not member.learning:
        return member.mask
    return {name: torch.ones_like(kept) for name, kept in member.mask.items()}


class Changes:
    """The masks of one stack in one round.

    Args:
        members: whose masks change, of one training.
        masks: stacked, that they begin with.
        settings: with every length in iterations.
        round: of which members of `set` draw.
        total: iterations of it.

    Attributes:
        masks: as they are now, prunable tensor → K×shape.
        by_gradient: whether weights grow by their gradients.
    """

    def __init__(
        self, members: Sequence[Member], masks: Mapping[str, Tensor], settings: Settings, round: int, total: int
    ) -> None:
        self._members, self._round, self._alpha = members, round, settings.mask_fraction
        self._when, self._gradual = When.told(settings, total), members[0].training == "gmp"
        self.masks, self.by_gradient = dict(masks), members[0].training == "rigl"
        self._left = {name: [int(member.mask[name].sum()) for member in members] for name in masks}
        self._counts = self._counted()
        self._weight_images = {name: [0] * len(members) for name in masks}
        self._images = self._dense_gradients = 0

    def due(self, iteration: int) -> bool:
        """Whether the masks change after this iteration."""
        last = self._gradual and iteration == self._when.until
        return last or self._when.regular(iteration)

    def passed(self, images: int, iteration: int) -> None:
        """Each member is trained on so many images more, the last of them in this iteration."""
        self._images += images
        for name, counts in self._counts.items():
            for k, count in enumerate(counts):
                self._weight_images[name][k] += images * count
        if self.by_gradient and self.due(iteration):
            self._dense_gradients += images

    @torch.no_grad()
    def change(self, iteration: int, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """The masks that follow on this iteration, from stacked weights and the gradients of all of them."""
        made: dict[str, list[Tensor]] = {name: [] for name in self.masks}
        for k, member in enumerate(self._members):
            source = generator(member.seed, "set", self._round, iteration)
            for name, kept in self.masks.items():
                own = weights[name][k]
                if self._gradual:
                    left = self._when.left(own.numel(), self._left[name][k], iteration)
                    made[name].append(strongest(_finite(own.abs()), kept[k], left))
                    continue
                wanted = gradients[name][k].abs() if self.by_gradient else torch.rand(own.shape, generator=source)
                going = self._when.fraction(self._alpha, iteration)
                made[name].append(regrown(own, kept[k], wanted.to(own.device), going))
        self.masks = {name: torch.stack(each) for name, each in made.items()}
        self._counts = self._counted()

    def _counted(self) -> dict[str, list[int]]:
        """Of each tensor the survivors of each member."""
        return {name: kept.flatten(1).sum(1).tolist() for name, kept in self.masks.items()}

    def made(self) -> Sequence[Changed]:
        """What became of each member's mask, on the CPU, once the round is over."""
        return [
            Changed(
                mask={name: kept[k].cpu().clone() for name, kept in self.masks.items()},
                densities={
                    name: self._weight_images[name][k] / (kept[k].numel() * self._images)
                    for name, kept in self.masks.items()
                },
                dense_gradients=self._dense_gradients,
                settled_at=self._when.until if self._gradual else 0,
            )
            for k in range(len(self._members))
        ]
