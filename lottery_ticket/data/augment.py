"""Augmentations: what is done to the images of each training batch, drawn anew for every image."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lottery_ticket import plugins
from lottery_ticket.errors import InputError


class Augmentation(NamedTuple):
    """An augmentation.

    Attributes:
        apply: (images B×C×H×W, standardised, of one network's batch; a generator on their device, from which it draws
            all that it draws) → images of the same shape. Without branching on values, so that a GPU can replay it.
    """

    apply: Callable[[Tensor, torch.Generator], Tensor]


def _flip(x: Tensor, draws: torch.Generator) -> Tensor:
    """Each image mirrored left to right, or not, with equal chance."""
    mirrored = torch.rand(len(x), 1, 1, 1, generator=draws, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


def _crop(x: Tensor, draws: torch.Generator) -> Tensor:
    """Each image moved by up to 4 pixels a side, zeros (the mean colour) where it was not. He et al. 2015, 4.2."""
    height, width = x.shape[2:]
    down, right = torch.randint(0, 9, (2, len(x), 1), generator=draws, device=x.device)
    rows = (torch.arange(height, device=x.device) + down)[:, None, :, None]
    columns = (torch.arange(width, device=x.device) + right)[:, None, None, :]
    padded = F.pad(x, (4, 4, 4, 4))
    return padded.gather(2, rows.expand(-1, x.shape[1], -1, width + 8)).gather(3, columns.expand(*x.shape[:3], -1))


AUGMENTATIONS = {"flip": Augmentation(_flip), "crop": Augmentation(_crop)}


def augmentations(names: Sequence[str], input_shape: tuple[int, ...]) -> list[Augmentation]:
    """The augmentations of these names; InputError where there is none, or the data set is no pictures."""
    found = []
    for name in names:
        each = plugins.named("augmentations", name, AUGMENTATIONS, "--augment")
        if not isinstance(each, Augmentation):
            raise plugins.unfit("--augment", name, each, "a lottery_ticket.data.Augmentation")
        if len(input_shape) != 3:
            raise InputError("--augment", name, f"takes pictures; allowed for data of shape {input_shape}: none")
        found.append(each)
    return found


def augment(x: Tensor, by: Sequence[Augmentation], generators: Sequence[torch.Generator]) -> Tensor:
    """The images K×B×C×H×W of K networks, each network's drawn from its own generator."""
    members = list(x)
    for each in by:
        members = [each.apply(own, draws) for own, draws in zip(members, generators, strict=True)]
    return torch.stack(members)
