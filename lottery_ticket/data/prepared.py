"""Data sets as tensors: loaded, split, standardised and moved to the device."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from lottery_ticket.config import normalisation_numbers
from lottery_ticket.data.images import Images
from lottery_ticket.data.streamed import Streamed
from lottery_ticket.errors import InputError
from lottery_ticket.randomness import generator

_AT_ONCE = 2**18
"""Values whose statistics are summed in float64 at a time."""


_LARGEST = 3.4e38
"""Of float32."""


class DataInfo(BaseModel):
    """What a network must know of the data set that it was trained on to take its images.

    Attributes:
        name, digest: as those of `Images`.
        image_shape, dtype: of one image as it is kept on disk: (H, W), (H, W, C) or (D,); uint8 or float32.
        classes: how many.
        mean, std: of the images trained on, one for each channel, or for each column of images (D,). In runs
            of version 0.3 they are those of all training images, held out or not, and images (D,) have one in all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    digest: str
    image_shape: tuple[Annotated[int, Field(ge=1, lt=2**31)], ...] = Field(min_length=1, max_length=3)
    dtype: Literal["uint8", "float32"]
    classes: Annotated[int, Field(ge=1, lt=2**31)]
    mean: tuple[Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)], ...]
    std: tuple[Annotated[float, Field(gt=0, le=_LARGEST)], ...]

    @model_validator(mode="after")
    def _fits(self) -> "DataInfo":
        counts = {self.input_shape[0]} | ({1} if len(self.image_shape) == 1 else set())
        if len(self.mean) not in counts or len(self.std) != len(self.mean):
            raise ValueError(f"mean and std are not those of {self.input_shape[0]} channel(s)")
        return self

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image as networks take it: (C, H, W) or (D,)."""
        shape = self.image_shape
        return shape if len(shape) == 1 else (1, *shape) if len(shape) == 2 else (shape[2], *shape[:2])

    def standardise(self, x: Tensor) -> Tensor:
        """Images N×C×H×W (or N×D) in float32, as kept on disk, made what the network was trained on."""
        shape = [-1] + [1] * (x.ndim - 2)
        return (x - torch.tensor(self.mean).view(shape)).div_(torch.tensor(self.std).view(shape))


@dataclass(frozen=True)
class Split:
    """Images on a device: x is N×C×H×W (or N×D) float32, standardised per channel (column); y is N int64 labels.

    `x` is a tensor, or what gives its rows where it is not to be in memory.
    """

    x: Tensor | Streamed = field(repr=False)
    y: Tensor = field(repr=False)

    def __len__(self) -> int:
        """The number of images."""
        return len(self.y)


@dataclass(frozen=True)
class Data:
    """Training, validation (possibly empty) and test images on a device, and what they come from."""

    train: Split
    validation: Split
    test: Split
    info: DataInfo

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.info.classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image: (C, H, W) or (D,)."""
        return tuple(self.train.x.shape[1:])


def prepare(
    images: Images,
    validation_size: int,
    device: torch.device,
    info: DataInfo | None = None,
    normalise: str = "data",
    in_memory: int | None = None,
) -> Data:
    """Split off `validation_size` of the training images, standardise as `normalise` says, move to the device.

    The split is drawn once from a fixed seed, so that all arms and seeds validate on the same images. `info` is what a
    network was trained on before, whose mean and standard deviation are taken as they are. Where all images take more
    than `in_memory` bytes so, they are left where they are and standardised when they are asked for.
    """
    info = info or describe(images, validation_size, normalise)
    kept, held = split(images, validation_size)
    streamed = in_memory is not None and standardised_bytes(images) > in_memory

    def made(x: np.ndarray) -> Tensor:
        return info.standardise(channels_first(x)).to(device)

    def part(x: np.ndarray, y: np.ndarray, which: np.ndarray) -> Split:
        labels = torch.from_numpy(np.array(y[which])).to(device)
        return Split(Streamed(x, which, made) if streamed else made(x[which]), labels)

    train, validation = (part(images.x_train, images.y_train, which) for which in (kept, held))
    return Data(train, validation, part(images.x_test, images.y_test, np.arange(len(images.y_test))), info)


def standardised_bytes(images: Images) -> int:
    """The memory that all images of a data set take once they are standardised, in float32."""
    return 4 * (images.x_train.size + images.x_test.size)


def split(images: Images, validation_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which training images are trained on and which are held out, each in order. InputError where none is left."""
    total = len(images.y_train)
    if validation_size >= total:
        allowed = f"fewer than the {total} training images of {images.name}, or 0 for none"
        raise InputError("--validation-size", validation_size, f"is not allowed; allowed: {allowed}")
    order = torch.randperm(total, generator=generator(0, "validation split")).numpy()
    return np.sort(order[validation_size:]), np.sort(order[:validation_size])


def describe(images: Images, validation_size: int, normalise: str = "data") -> DataInfo:
    """What a network must know of these images that is trained on all but the held-out ones.

    `normalise`: see `Settings`; InputError where its numbers are those of other channels.
    """
    if normalise == "data":
        mean, std = _statistics(images.x_train, split(images, validation_size)[0])
    else:
        mean, std = _constants(normalise, images)
    return DataInfo(
        name=images.name,
        digest=images.digest,
        image_shape=images.x_train.shape[1:],
        dtype="uint8" if images.x_train.dtype == np.uint8 else "float32",
        classes=images.classes,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )


def _constants(normalise: str, images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation that are told, of whole numbers in units of 255, for each channel or column."""
    shape = images.x_train.shape[1:]
    count = shape[0] if len(shape) == 1 else shape[2] if len(shape) == 3 else 1
    mean, std = normalisation_numbers(normalise)
    if len(mean) not in (1, count):
        why = f"has {len(mean)} means; allowed for {images.name}: one{f', or {count}' if count > 1 else ''}, or data"
        raise InputError("--normalise", normalise, why)
    unit = 255 if images.x_train.dtype == np.uint8 else 1
    return tuple(np.full(count, unit, np.float64) * each for each in (mean, std))  # type: ignore[return-value]


def _statistics(x: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (1 where there is none) of each channel of N×H×W(×C), each column of N×D; float32.

    Of those images, a part of which is looked at at a time.
    """
    columns = 1 if x.ndim == 3 else x.shape[-1]
    count = len(which) * (1 if x.ndim == 2 else x.shape[1] * x.shape[2])
    total, square = np.zeros(columns), np.zeros(columns)
    for at, part in _parts(x, which):
        total[at] += part.sum(0, dtype=np.float64)
    mean = total / count
    for at, part in _parts(x, which):
        square[at] += ((part - mean[at]) ** 2).sum(0)
    std = np.sqrt(square / count).astype(np.float32)
    return mean.astype(np.float32), np.where(std >= np.finfo(np.float32).tiny, std, np.float32(1))


def _parts(x: np.ndarray, which: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Those images, a part at a time, and which columns it has: all of a table, else the pixels of one channel."""
    if x.ndim == 2:
        rows = max(1, _AT_ONCE // x.shape[1])
        for first in range(0, len(which), rows):
            yield slice(None), x[which[first : first + rows]]
        return
    pixels = x.shape[1] * x.shape[2]
    for first in range(0, len(which) * pixels, _AT_ONCE):
        last = min(first + _AT_ONCE, len(which) * pixels)
        begun = first // pixels
        some = x[which[begun : -(-last // pixels)]].reshape(-1, 1 if x.ndim == 3 else x.shape[3])
        some = some[first - begun * pixels : last - begun * pixels]
        for channel in range(some.shape[1]):  # one after another: sums over a short last axis are slow
            yield slice(channel, channel + 1), np.ascontiguousarray(some[:, channel : channel + 1])


def channels_first(x: np.ndarray) -> Tensor:
    """Images as kept on disk in float32: N×H×W×C → N×C×H×W, N×H×W → N×1×H×W; N×D stays."""
    if x.ndim == 4:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return torch.from_numpy(np.array(x[:, None] if x.ndim == 3 else x, dtype=np.float32))
