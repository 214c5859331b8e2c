"""What members are trained on that do not see the training images as they are."""

import math

import torch
from torch import Tensor

from lottery_ticket.data.prepared import Split
from lottery_ticket.engine.job import Member
from lottery_ticket.randomness import generator


def half_of(images: int, seed: int) -> Tensor:
    """Which of so many images the half of this seed are; of an odd number the larger half."""
    return torch.randperm(images, generator=generator(seed, "half-data"))[: math.ceil(images / 2)]


def in_random_order(labels: Tensor, seed: int) -> Tensor:
    """The labels in the random order of this seed: as many of each class, of other images."""
    order = torch.randperm(len(labels), generator=generator(seed, "random-labels"))
    return labels[order.to(labels.device)]


def twice(half: Tensor, order: Tensor, source: torch.Generator) -> Tensor:
    """An epoch of half of the images, each twice: once in that order, which is of all, and once in another."""
    again = torch.randperm(len(half), generator=source)
    return half[torch.cat([order[order < len(half)], again])[: len(order)]]


def seen_by(member: Member, images: Split) -> Split:
    """The training images as a member sees them."""
    if member.training == "random-labels":
        return Split(images.x, in_random_order(images.y, member.seed))
    if member.training == "half-data":
        half = half_of(len(images), member.seed).to(images.y.device)
        return Split(images.x[half], images.y[half])
    return images
