"""Training images as members see them that are not trained on all of them as they are (`Member.training`)."""

import math

import torch
from torch import Tensor

from lottery_ticket.data.prepared import Split
from lottery_ticket.engine.job import Training
from lottery_ticket.randomness import generator


def random_labels(labels: Tensor, seed: int) -> Tensor:
    """Labels in an order of the seed's: as many of each class, of other images."""
    return labels[torch.randperm(len(labels), generator=generator(seed, "random-labels")).to(labels.device)]


def half(images: int, seed: int) -> Tensor:
    """Indices of half of so many images, drawn for the seed."""
    return torch.randperm(images, generator=generator(seed, "half-data"))[: math.ceil(images / 2)]


def seen(images: Split, training: Training, seed: int) -> Split:
    """The images and labels that a member is trained on."""
    if training == "random-labels":
        return Split(images.x, random_labels(images.y, seed))
    if training == "half-data":
        those = half(len(images), seed).to(images.y.device)
        return Split(images.x[those], images.y[those])
    return images
