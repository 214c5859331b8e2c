"""A data set as NumPy arrays: images and labels, training and test."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Images:
    """A data set as it is kept on disk.

    Attributes:
        name: its name, or the file's stem.
        source: where it came from.
        x_train, x_test: N×H×W, N×H×W×C or N×D, uint8 or float32.
        y_train, y_test: N labels 0 … classes − 1, int64.
        notes: how it was read where that is not as the file has it, each a line.
    """

    name: str
    source: str
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_test: np.ndarray = field(repr=False)
    y_test: np.ndarray = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """The number of classes: the largest training label + 1."""
        return int(self.y_train.max()) + 1

    @cached_property
    def digest(self) -> str:
        """SHA-256 over dtype, shape and bytes of the four arrays, 36 hexadecimal digits as MLflow allows."""
        digest = hashlib.sha256()
        for key in KEYS:
            array = getattr(self, key)
            digest.update(f"{key} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:36]
