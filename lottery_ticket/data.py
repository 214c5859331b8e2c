"""Data sets as tensors: packaged MNIST, torchvision's sets kept as .npz in a cache, and any .npz by path."""

import gzip
import hashlib
import math
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from lottery_ticket.errors import InputError, LotteryTicketError, one_line, unknown
from lottery_ticket.randomness import generator

MOST_BYTES = 2**33
"""Of all arrays of an .npz together; a file that declares more is refused before room is made for them."""

KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Known:
    """A data set known by name: one image's shape (H, W) or (H, W, C), classes and torchvision's class."""

    shape: tuple[int, ...]
    classes: int
    torchvision: str | None


KNOWN = {
    "mnist": Known((28, 28), 10, None),
    "fashion-mnist": Known((28, 28), 10, "FashionMNIST"),
    "kmnist": Known((28, 28), 10, "KMNIST"),
    "cifar10": Known((32, 32, 3), 10, "CIFAR10"),
    "cifar100": Known((32, 32, 3), 100, "CIFAR100"),
    "svhn": Known((32, 32, 3), 10, "SVHN"),
}

_MNIST_SHA256 = {
    "train-images-idx3-ubyte.gz": "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
    "train-labels-idx1-ubyte.gz": "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
    "t10k-images-idx3-ubyte.gz": "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
    "t10k-labels-idx1-ubyte.gz": "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
}


@dataclass(frozen=True)
class Images:
    """A data set as it is kept on disk.

    Attributes:
        name: its name, or the file's stem.
        source: where it came from.
        x_train, x_test: N×H×W, N×H×W×C or N×D, uint8 or float32.
        y_train, y_test: N labels 0 … classes − 1, int64.
    """

    name: str
    source: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

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


class DataInfo(BaseModel):
    """What a network must know of the data set that it was trained on to take its images.

    Attributes:
        name, digest: as those of `Images`.
        image_shape, dtype: of one image as it is kept on disk: (H, W), (H, W, C) or (D,); uint8 or float32.
        classes: how many.
        mean, std: of the training images, one for each channel (one in all for images (D,)).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    digest: str
    image_shape: tuple[PositiveInt, ...] = Field(min_length=1, max_length=3)
    dtype: Literal["uint8", "float32"]
    classes: PositiveInt
    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]

    @model_validator(mode="after")
    def _fits(self) -> "DataInfo":
        channels = self.input_shape[0] if len(self.image_shape) > 1 else 1
        if not len(self.mean) == len(self.std) == channels:
            raise ValueError(f"mean and std are not those of {channels} channel(s)")
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
    """Images on a device: x is N×C×H×W (or N×D) float32, standardised per channel; y is N int64 labels."""

    x: Tensor
    y: Tensor

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


def load_images(name: str, option: str = "--dataset") -> Images:
    """A data set by name (fetched into the cache if need be) or the path of an .npz.

    An .npz holds `x_train, y_train, x_test, y_test`: images N×H×W, N×H×W×C or N×D as uint8 or float32, labels as
    integers from 0. Raises InputError when there is no such data set or the file is not what it must be.
    """
    if name == "mnist":
        return _mnist()
    if name in KNOWN:
        path = cached(name)
        if not path.exists():
            fetch(name)
        images = _npz(path, name, option)
        if images.x_train.shape[1:] != KNOWN[name].shape or images.classes != KNOWN[name].classes:
            raise InputError(
                option,
                name,
                f"in the cache ({path}) has images {images.x_train.shape[1:]} in {images.classes} classes; "
                f"allowed: {KNOWN[name].shape} in {KNOWN[name].classes} (delete the file to fetch it again)",
            )
        return images
    if name.endswith(".npz"):
        return _npz(Path(name), Path(name).stem, option)
    raise unknown(option, name, [*KNOWN, "the path of an .npz file"])


def prepare(images: Images, validation_size: int, device: torch.device) -> Data:
    """Standardise per channel by the training images, split off `validation_size` of them, move to the device.

    The split is drawn once from a fixed seed, so that all arms and seeds validate on the same images.
    """
    total = len(images.y_train)
    if validation_size >= total:
        allowed = f"fewer than the {total} training images of {images.name}, or 0 for none"
        raise InputError("--validation-size", validation_size, f"is not allowed; allowed: {allowed}")
    info = describe(images)
    x, x_test = (info.standardise(channels_first(part)).to(device) for part in (images.x_train, images.x_test))
    y, y_test = (torch.from_numpy(part).to(device) for part in (images.y_train, images.y_test))
    order = torch.randperm(total, generator=generator(0, "validation split")).to(device)
    kept, held = order[validation_size:].sort().values, order[:validation_size].sort().values
    return Data(Split(x[kept], y[kept]), Split(x[held], y[held]), Split(x_test, y_test), info)


def describe(images: Images) -> DataInfo:
    """What a network trained on these images must know of them."""
    x = channels_first(images.x_train)
    axes = [axis for axis in range(x.ndim) if axis != 1] if x.ndim == 4 else [0, 1]
    mean = x.mean(axes, keepdim=True, dtype=torch.float64).float()
    std = (x - mean).square().mean(axes, dtype=torch.float64).sqrt().clamp_min(1e-12).float()
    return DataInfo(
        name=images.name,
        digest=images.digest,
        image_shape=images.x_train.shape[1:],
        dtype="uint8" if images.x_train.dtype == np.uint8 else "float32",
        classes=images.classes,
        mean=tuple(mean.flatten().tolist()),
        std=tuple(std.flatten().tolist()),
    )


def cache_folder() -> Path:
    """Where fetched data sets are kept: LT_DATA_DIR, else `lottery-ticket` in the user's cache folder."""
    if named := os.environ.get("LT_DATA_DIR"):
        return Path(named)
    if sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "lottery-ticket"


def cached(name: str) -> Path:
    """The path at which the cache keeps a data set."""
    return cache_folder() / f"{name}.npz"


def fetch(name: str) -> Path:
    """Bring a data set into the cache through torchvision; the file appears whole or not at all.

    Raises LotteryTicketError when it cannot be downloaded or fails torchvision's checksum.
    """
    known = KNOWN[name]
    if known.torchvision is None:
        raise InputError("NAME", name, "is packaged and needs no fetching; allowed: the others of `lt data`")
    from torchvision import datasets

    make: Callable = getattr(datasets, known.torchvision)
    target = cached(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            arrays = {}
            for part in ("train", "test"):
                which = {"split": part} if name == "svhn" else {"train": part == "train"}
                made = make(work, download=True, **which)
                x = np.asarray(made.data)
                arrays[f"x_{part}"] = x.transpose(0, 2, 3, 1) if name == "svhn" else x
                labels = made.labels if name == "svhn" else made.targets
                arrays[f"y_{part}"] = np.asarray(labels, np.int64)
            whole = Path(work) / "whole.npz"
            np.savez_compressed(whole, **arrays)  # type: ignore[arg-type]
            os.replace(whole, target)
    except Exception as error:
        raise LotteryTicketError(
            f"--dataset {name} could not be fetched into {target.parent} ({one_line(error)}); "
            f"allowed instead: a file {target} or any .npz with {', '.join(KEYS)}"
        ) from error
    return target


def _mnist() -> Images:
    folder = resources.files("lottery_ticket") / "mnist"
    arrays = []
    for file, sha256 in _MNIST_SHA256.items():
        path = folder / file
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise InputError("--dataset", "mnist", f"cannot be read: {error}; reinstall the package") from None
        if hashlib.sha256(raw).hexdigest() != sha256:
            raise InputError(
                "--dataset",
                "mnist",
                f"is damaged: {path} has another SHA-256 than {sha256}; reinstall the package",
            )
        raw = gzip.decompress(raw)
        shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(raw[3])]
        arrays.append(np.frombuffer(bytearray(raw), np.uint8, offset=4 + 4 * raw[3]).reshape(shape))
    x_train, y_train, x_test, y_test = arrays
    return Images("mnist", "packaged", x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))


def _npz(path: Path, name: str, option: str) -> Images:
    def refuse(why: str) -> InputError:
        return InputError(option, str(path), why)

    arrays = {}
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise refuse(f"is no file; allowed: an .npz with {', '.join(KEYS)}")
    try:
        if declared := _declared(path):
            raise refuse(f"declares {declared:,} bytes; allowed: at most {MOST_BYTES:,}")
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise refuse(f"lacks {', '.join(missing)}; allowed: an .npz with {', '.join(KEYS)}")
            arrays = {key: file[key] for key in KEYS}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError("its members are no arrays")
    except (
        OSError,
        ValueError,
        EOFError,
        RuntimeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise refuse(f"cannot be read as .npz ({one_line(error)}); allowed: an .npz with {', '.join(KEYS)}") from None
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype not in (np.uint8, np.float32) or x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
            raise refuse(
                f"has x_{part} of dtype {x.dtype} and shape {x.shape}; allowed: uint8 or float32, N×H×W, N×H×W×C or N×D"
            )
        if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
            raise refuse(f"has y_{part} of dtype {y.dtype} and shape {y.shape}; allowed: N integer labels")
        if len(x) != len(y) or not len(x):
            raise refuse(f"has {len(x)} images and {len(y)} labels in {part}; allowed: equally many, at least 1")
        if x.dtype == np.float32 and not np.isfinite(x).all():
            raise refuse(f"has x_{part} with values that are not finite; allowed: finite numbers")
        arrays[f"y_{part}"] = y.astype(np.int64)
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise refuse(
            f"has images of {arrays['x_train'].shape[1:]} in train and {arrays['x_test'].shape[1:]} in test; "
            "allowed: one shape"
        )
    classes = int(arrays["y_train"].max()) + 1
    for part in ("train", "test"):
        y = arrays[f"y_{part}"]
        if y.min() < 0 or y.max() >= classes or classes > len(arrays["y_train"]):
            raise refuse(f"has labels {y.min()} to {y.max()} in {part}; allowed: 0 to {classes - 1}, as in training")
    return Images(name, str(path), **arrays)


def _declared(path: Path) -> int:
    """The bytes that the archive's members and the arrays in them declare, if more than MOST_BYTES, else 0.

    Counted before room is made for any of them. The errors are those of zipfile and numpy.
    """
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.removesuffix(".npy") in KEYS]
        total = sum(info.file_size for info in members)
        if total > MOST_BYTES:
            return total
        total = 0
        for info in members:
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            total += math.prod(shape) * dtype.itemsize
    return total if total > MOST_BYTES else 0


def channels_first(x: np.ndarray) -> Tensor:
    """Images as kept on disk in float32: N×H×W×C → N×C×H×W, N×H×W → N×1×H×W; N×D stays."""
    if x.ndim == 4:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return torch.from_numpy(np.array(x[:, None] if x.ndim == 3 else x, dtype=np.float32))
