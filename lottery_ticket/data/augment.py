"""Augmentations: what is done to the images of each training batch, drawn anew for every image."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lottery_ticket import plugins
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.errors import InputError

Apply = Callable[[Tensor, torch.Generator], Tensor]
"""(images B×C×H×W, standardised, of one network's batch; a generator on their device, from which it draws all that it
draws) → images of the same shape. Without branching on values, so that a GPU can replay it."""


class Augmentation(NamedTuple):
    """An augmentation.

    Attributes:
        apply: what is done to the images of one network's batch: an `Apply`, or a function that takes a third argument.
        black: it does: what a black pixel is after standardisation, C×1×1.
    """

    apply: Callable[..., Tensor]
    black: bool = False

    def on(self, black: Tensor) -> Apply:
        """What is done to images whose black pixels are these, C×1×1."""
        return partial(self.apply, black=black) if self.black else self.apply


def _flip(x: Tensor, draws: torch.Generator) -> Tensor:
    """Each image mirrored left to right, or not, with equal chance."""
    mirrored = torch.rand(len(x), 1, 1, 1, generator=draws, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


def _crop(x: Tensor, draws: torch.Generator, black: Tensor) -> Tensor:
    """Each image moved by up to 4 pixels a side, black where it was not.

    Black, not the mean colour: open_lth and others pad before they standardise. He et al. 2016 (arXiv 1512.03385), 4.2.
    """
    images, channels, height, width = x.shape
    down, right = torch.randint(0, 2 * _MOVED + 1, (2, images, 1), generator=draws, device=x.device)
    rows = torch.arange(height, device=x.device) + down
    columns = torch.arange(width, device=x.device) + right
    padded = black.expand(images, channels, height + 2 * _MOVED, width + 2 * _MOVED).contiguous()
    padded[:, :, _MOVED:-_MOVED, _MOVED:-_MOVED] = x
    places = (rows[:, :, None] * padded.shape[3] + columns[:, None]).view(images, 1, -1)
    return padded.flatten(2).gather(2, places.expand(-1, channels, -1)).view_as(x)


_MOVED = 4
"""Pixels that a crop moves an image by at most, on each side."""

AUGMENTATIONS = {"flip": Augmentation(_flip), "crop": Augmentation(_crop, black=True)}


def augmentations(names: Sequence[str], info: DataInfo, device: torch.device) -> list[Apply]:
    """What the augmentations of these names do to a data set's images.

    InputError where there is no such augmentation, or the data set is no pictures.
    """
    found = []
    for name in names:
        each = plugins.named("augmentations", name, AUGMENTATIONS, "--augment")
        if not isinstance(each, Augmentation):
            raise plugins.unfit("--augment", name, each, "a lottery_ticket.data.Augmentation")
        if len(info.input_shape) != 3:
            raise InputError("--augment", name, f"takes pictures; allowed for data of shape {info.input_shape}: none")
        found.append(each.on(info.standardise(torch.zeros(1, info.input_shape[0], 1, 1))[0].to(device)))
    return found


def augment(x: Tensor, by: Sequence[Apply], generators: Sequence[torch.Generator]) -> Tensor:
    """The images K×B×C×H×W of K networks, each network's drawn from its own generator."""
    members = list(x)
    for apply in by:
        members = [apply(own, draws) for own, draws in zip(members, generators, strict=True)]
    return torch.stack(members)
