"""Masks that are learned while a stack's weights stay what they are: edge-popup, and Zhou et al.'s supermasks.

Every weight has a score, and the scores are what the optimiser trains. They make a mask anew in each iteration, under
which the network computes, and whose gradient goes straight through to all of them, pruned weights' too.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lottery_ticket.engine.job import Changed, Member
from lottery_ticket.masks import Weights
from lottery_ticket.randomness import derive, generator

SURE = 1e-6
"""How near to 0 or 1 the probability of a weight may be that a supermask begins with."""


def edge_scores(shape: torch.Size, source: torch.Generator) -> Tensor:
    """What edge-popup begins with: uniform in ± 1/√fan-in, as of a Kaiming-uniform layer with a = √5.

    Ramanujan et al. 2020 (arXiv 1911.13299) and its code.
    """
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape.numel()
    return torch.empty(shape).uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=source)


def largest(scores: Tensor, left: int) -> Tensor:
    """A mask of exactly so many, those of the largest absolute values; of equal ones the last."""
    sizes = scores.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).flatten()
    smallest = _in_order(sizes, len(sizes) - left)
    kept = sizes > smallest
    tied = (sizes == smallest).nonzero().flatten()
    kept[tied[len(tied) - (left - int(kept.count_nonzero())) :]] = True
    return kept.view(scores.shape)


def _in_order(values: Tensor, place: int) -> Tensor:
    """The value at a place of ascending order, 0 …: on a CPU by NumPy, in a thirtieth of torch's time."""
    if values.device.type != "cpu":
        return values.kthvalue(place + 1).values
    return torch.from_numpy(np.partition(values.numpy(), place)[place : place + 1])


class Supermasks:
    """The scores and masks of one stack in one round.

    Ramanujan et al. 2020 (arXiv 1911.13299), section 3; Zhou, Lan, Liu & Yosinski 2019 (arXiv 1905.01067), section 5.

    Args:
        members: of one such training, each with as many weights in its mask as are to be left: with edge-popup exactly,
            as a supermask in the mean when training begins.
        weights: stacked, prunable tensor → K×shape; they are never changed.
        round: of which the members draw.

    Attributes:
        masked: prunable tensor → K×shape, the weights under the mask of the moment, pruned ones zero: what the network
            computes with, and of which gradients are asked.
        scores: what is trained, of the same shapes: edge-popup's scores; the logits of a supermask's probabilities.
    """

    def __init__(self, members: Sequence[Member], weights: Mapping[str, Tensor], round: int) -> None:
        self._members, self._round, self._weights = members, round, dict(weights)
        self._device = next(iter(weights.values())).device
        self._sampled = members[0].how == "supermask"
        self._left = {name: [int(member.mask[name].sum()) for member in members] for name in weights}
        self.scores = {name: each.to(self._device) for name, each in self._first().items()}
        self.masked = {name: torch.empty_like(value).requires_grad_() for name, value in weights.items()}
        self._masks: Weights = {}
        self._chances: Weights = {}
        self._draws = self._generators("supermask", round)
        self._weight_images = {name: torch.zeros(len(members), dtype=torch.long) for name in weights}
        self._images = self._iteration = 0

    def _first(self) -> Weights:
        """The scores that training begins with."""
        shapes = {name: value.shape[1:] for name, value in self._weights.items()}
        if self._sampled:
            parts = {name: [left / shapes[name].numel() for left in self._left[name]] for name in shapes}
            return {
                name: torch.stack([torch.full(shape, part).logit(SURE) for part in parts[name]])
                for name, shape in shapes.items()
            }
        sources = [generator(member.seed, "edge-popup", self._round) for member in self._members]
        return {name: torch.stack([edge_scores(shape, each) for each in sources]) for name, shape in shapes.items()}

    def _generators(self, purpose: str, *at: int) -> list[torch.Generator]:
        return [torch.Generator(self._device).manual_seed(derive(each.seed, purpose, *at)) for each in self._members]

    @torch.no_grad()
    def train_under(self, images: int) -> None:
        """Put on the masks of an iteration, in which each member is trained on so many images."""
        self._put_on(self._chosen(self._draws))
        self._images += images
        for name, kept in self._masks.items():
            self._weight_images[name] += images * kept.flatten(1).count_nonzero(1).cpu()

    @torch.no_grad()
    def evaluate_under(self, iteration: int) -> None:
        """Put on the masks to be evaluated after an iteration; a supermask's are drawn for it, by its seed alone.

        In a tensor for which nothing is drawn the likeliest weight is kept.
        """
        self._iteration = iteration
        chosen = self._chosen(self._generators("supermask evaluated", self._round, iteration))
        for name, chances in self._chances.items():
            for kept, each in zip(chosen[name], chances, strict=True):
                kept.view(-1)[each.argmax()] |= ~kept.any()
        self._put_on(chosen)

    def _chosen(self, draws: Sequence[torch.Generator]) -> Weights:
        """The masks that the scores make now, a supermask's by these draws of the members."""
        if not self._sampled:
            left = self._left
            return {name: torch.stack([*map(largest, own, left[name])]) for name, own in self.scores.items()}
        self._chances = {name: own.sigmoid() for name, own in self.scores.items()}
        return {name: _uniform(chance, draws) < chance for name, chance in self._chances.items()}

    def _put_on(self, masks: Weights) -> None:
        self._masks = masks
        for name, kept in masks.items():
            torch.mul(self._weights[name], kept, out=self.masked[name].detach())

    @torch.no_grad()
    def gradients(self, of_masked: Mapping[str, Tensor]) -> list[Tensor]:
        """Those of the scores, in their order, from those of the weights under the masks of an iteration.

        With edge-popup the gradient of a weight's place in the mask, by which it is multiplied, is that of its score's
        absolute value; in a supermask that of its probability.
        """
        made = []
        for name, scores in self.scores.items():
            of_mask = of_masked[name] * self._weights[name]
            if self._sampled:
                chance = self._chances[name]
                made.append(of_mask * chance * (1 - chance))
            else:
                made.append(of_mask * scores.sign())
        return made

    def finite(self) -> list[bool]:
        """Of each member, whether all its scores are."""
        return [all(bool(scores[k].isfinite().all()) for scores in self.scores.values()) for k in self._each]

    def made(self) -> Sequence[Changed]:
        """What each member learned: the masks that were evaluated last, on the CPU."""
        return [
            Changed(
                mask={name: kept[k].cpu().clone() for name, kept in self._masks.items()},
                densities={
                    name: int(counts[k]) / (self._weights[name][k].numel() * self._images)
                    for name, counts in self._weight_images.items()
                },
                dense_gradients=self._images,
                settled_at=self._iteration if self._sampled else 0,
            )
            for k in self._each
        ]

    @property
    def _each(self) -> range:
        return range(len(self._members))


def _uniform(like: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
    """Numbers from 0 to 1 of that shape, K×…, each member's from its own generator."""
    return torch.stack([torch.rand(like.shape[1:], generator=draw, device=like.device) for draw in draws])
