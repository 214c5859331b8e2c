"""Images that stay where they are, on disk or as bytes, and are made tensors of a part at a time."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor


class Streamed:
    """What a tensor of images is to those who train and evaluate: rows that they take, in any order.

    The rows are bit for bit those of the tensor that all of them together would be.

    Args:
        images: as a data set has them, perhaps in a memory-mapped file.
        which: the rows that count, in order.
        make: images → tensor on the device, standardised row by row.
    """

    nbytes = 0
    """Of memory that it holds."""

    def __init__(self, images: np.ndarray, which: np.ndarray, make: Callable[[np.ndarray], Tensor]) -> None:
        self._images, self._which, self._make = images, which, make
        sample = make(images[:1])
        self.shape, self.device = torch.Size([len(which), *sample.shape[1:]]), sample.device

    def __len__(self) -> int:
        return len(self._which)

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        rows = self._which[which.cpu().numpy() if isinstance(which, Tensor) else which]
        return self._make(self._images[rows])

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The rows of these numbers; `dim` is 0."""
        return self[index]

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows, `size` at a time."""
        return (self[first : first + size] for first in range(0, len(self), size))
