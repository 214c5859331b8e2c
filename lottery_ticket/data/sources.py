"""Data sets known by name: packaged MNIST, and torchvision's sets kept as .npz in a cache."""

import gzip
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lottery_ticket import plugins, shipped
from lottery_ticket.data import npz
from lottery_ticket.data.images import KEYS, Images
from lottery_ticket.data.meaning import understand
from lottery_ticket.errors import InputError, LotteryTicketError, one_line, unknown


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


def at_hand(name: str) -> bool:
    """Whether a data set is on this machine, so that nothing must be fetched or asked for to load it."""
    if name == "mnist" or name in plugins.installed("datasets"):
        return True
    return not plugins.is_code(name) and (cached(name) if name in KNOWN else Path(name)).is_file()


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


def mnist() -> Images:
    """The packaged MNIST; InputError where its files are damaged."""
    folder = shipped.folder("mnist")
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
    return Images("mnist", str(folder), x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))


def load_images(name: str, option: str = "--dataset", digest: str | None = None) -> Images:
    """A data set by name (fetched into the cache if need be), the path of an .npz, or what a guest makes.

    A guest is a function without arguments that returns `Images`; who calls this sees to it that the user has named
    it, where it is code.

    An .npz holds `x_train, y_train, x_test, y_test`: images N×H×W, N×H×W×C or N×D as uint8 or float32, labels as
    integers from 0; what `lottery_ticket.data.meaning` can make that is taken as well.

    Args:
        name: of the data set, or the path.
        option: how errors call it.
        digest: of the data as it was taken before. Version 0.3 took some arrays as they stand that are converted now:
            where the file as it stands has this digest, it is taken so again.

    Raises:
        InputError: there is no such data set, or the file is not what it must be.
    """
    if name == "mnist":
        return mnist()
    if name in KNOWN:
        path = cached(name)
        if not path.exists():
            fetch(name)
        images = npz.read(path, name, option, digest)
        if images.x_train.shape[1:] != KNOWN[name].shape or images.classes != KNOWN[name].classes:
            raise InputError(
                option,
                name,
                f"in the cache ({path}) has images {images.x_train.shape[1:]} in {images.classes} classes; "
                f"allowed: {KNOWN[name].shape} in {KNOWN[name].classes} (delete the file to fetch it again)",
            )
        return images
    if name.endswith(".npz"):
        return npz.read(Path(name), Path(name).stem, option, digest)
    if not plugins.is_code(name) and name not in plugins.installed("datasets"):
        raise unknown(option, name, [*KNOWN, *plugins.installed("datasets"), "the path of an .npz file", "module:name"])
    make = plugins.named("datasets", name, {}, option)
    try:
        images = make()
    except (Exception, SystemExit) as error:
        raise InputError(option, name, f"could not be made: {one_line(error)}") from error
    if not isinstance(images, Images):
        raise InputError(option, name, f"gives a {type(images).__name__}; allowed: lottery_ticket.data.Images")

    def refuse(why: str) -> InputError:
        return InputError(option, name, why)

    arrays = {key: np.asarray(getattr(images, key)) for key in KEYS}
    return understand(arrays, {key: key for key in KEYS}, images.name, images.source, refuse)
