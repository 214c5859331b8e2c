"""Blocks of images, images innermost: N blocks × K members × channels × height × width × V images of a block.

Every surviving weight of a convolution is one multiply-add over a row of width · V numbers in this layout, and torch's
own operations for volumes serve for what lies between convolutions.
"""

from torch import Tensor

WIDEST = 64
"""Images of a block at most, so that what a row of outputs reads stays in the core's cache."""


def images_in_block(images: int) -> int:
    """V for a batch of so many images: a divisor, best of all a multiple of 16, the lanes of a vector register."""

    def merit(v: int) -> tuple[bool, bool, bool, int]:
        fits = v <= WIDEST
        return fits and v % 16 == 0, fits and v >= 16 and v % 8 == 0, fits and v >= 8, v

    return max((v for v in range(1, images + 1) if images % v == 0), key=merit)


def blocked(x: Tensor) -> Tensor:
    """K×B×C×H×W → N×K×C×H×W×V."""
    v = images_in_block(x.shape[1])
    return x.unflatten(1, (-1, v)).permute(1, 0, 3, 4, 5, 2).contiguous()


def members_first(x: Tensor) -> Tensor:
    """N×K×C×H×W×V → K×B×C×H×W."""
    return x.permute(1, 0, 5, 2, 3, 4).flatten(1, 2)


def vectors(x: Tensor) -> Tensor:
    """N×K×…×V → K×B×features, images innermost in memory."""
    return x.flatten(2, -2).permute(1, 2, 0, 3).flatten(2).mT
