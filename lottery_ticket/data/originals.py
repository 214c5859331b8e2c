"""Data sets as their authors publish them: files with address and MD5, and how their bytes are read."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lottery_ticket.data.images import KEYS
from lottery_ticket.data.pictures import Pictures, tiny_imagenet

Arrays = Mapping[str, np.ndarray]
"""`x_train, y_train, x_test, y_test`, as in `Images`."""


@dataclass(frozen=True)
class Original:
    """A published file: its address, whose last part is its name, and the MD5 that its authors or torchvision give."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Edition:
    """A data set in one of the forms in which it is published.

    Attributes:
        files: what is downloaded.
        read: makes arrays of them, or pictures that are not decoded yet.
        unpacked: a file that tells, where it is in a folder, that there is what the files hold.
    """

    files: tuple[Original, ...]
    read: Callable[[Sequence[Path]], Arrays | Pictures]
    unpacked: str | None = None


def read_idx(raw: bytes) -> np.ndarray:
    """The array of bytes in a file like MNIST's, unpacked: `0 0 8 axes`, the size of each axis, the values."""
    if raw[:3] != b"\0\0\x08":
        raise ValueError("no IDX file of bytes")
    shape = [int.from_bytes(raw[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(raw[3])]
    return np.frombuffer(bytearray(raw), np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _mnist_like(files: Sequence[Path]) -> Arrays:
    arrays = dict(zip(KEYS, (read_idx(gzip.decompress(path.read_bytes())) for path in files), strict=True))
    return {key: value.astype(np.int64) if key.startswith("y") else value for key, value in arrays.items()}


def _binary_cifar(label: int, labels: int, files: Sequence[Path]) -> Arrays:
    """Records of `labels` bytes, that at `label` being the class, and 3072 of red, green and blue."""
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for name, raw in _members(files[0], ".bin"):
        parts["test" if name.startswith("test") else "train"].append(
            np.frombuffer(raw, np.uint8).reshape(-1, labels + 3072)
        )
    records = {part: np.concatenate(found) for part, found in parts.items()}
    return _channels_last({part: (each[:, labels:], each[:, label]) for part, each in records.items()})


def _pickled_cifar(label: str, files: Sequence[Path]) -> Arrays:
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for name, raw in _members(files[0], ""):
        if name.startswith(("data_batch", "test", "train")):
            batch = _Plain(io.BytesIO(raw), encoding="latin1").load()
            parts["test" if name.startswith("test") else "train"].append(batch)
    made = {}
    for part, batches in parts.items():
        x, y = (np.concatenate([np.asarray(batch[key]) for batch in batches]) for key in ("data", label))
        made[part] = (x, y)
    return _channels_last(made)


class _Plain(pickle.Unpickler):
    """Unpickles lists, texts and NumPy's arrays; whatever else a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """What rebuilds an array."""
        reconstruct = np.empty(0).__reduce__()[0]
        known = {"_reconstruct": reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}
        if module.partition(".")[0] != "numpy" or name not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is none of an array")
        return known[name]


def _members(archive: Path, suffix: str) -> list[tuple[str, bytes]]:
    """Name and bytes of the files in a .tar.gz with that suffix, by name. Nothing is written."""
    with tarfile.open(archive, "r:gz") as tar:
        files = {Path(member.name).name: member for member in tar if member.isfile() and member.name.endswith(suffix)}
        return [(name, tar.extractfile(files[name]).read()) for name in sorted(files)]  # type: ignore[union-attr]


def _channels_last(parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Arrays:
    made = {}
    for part, (x, y) in parts.items():
        made[f"x_{part}"] = np.ascontiguousarray(x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        made[f"y_{part}"] = y.astype(np.int64)
    return made


def _svhn(files: Sequence[Path]) -> Arrays:
    """Netzer et al. 2011, cropped digits: X 32×32×3×N, y from 1 to 10, which is the digit 0."""
    import scipy.io

    made = {}
    for part, path in zip(("train", "test"), files, strict=True):
        content = scipy.io.loadmat(path)
        made[f"x_{part}"] = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2))
        made[f"y_{part}"] = content["y"].flatten().astype(np.int64) % 10
    return made


_IDX = tuple(f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))


def _idx(base: str, *sums: str) -> tuple[Edition, ...]:
    files = tuple(Original(base + name, md5) for name, md5 in zip(_IDX, sums, strict=True))
    return (Edition(files, _mnist_like),)


def _one(url: str, md5: str, read: Callable[[Sequence[Path]], Arrays]) -> Edition:
    return Edition((Original(url, md5),), read)


_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_SVHN = "http://ufldl.stanford.edu/housenumbers/"

PUBLISHED: Mapping[str, tuple[Edition, ...]] = {
    "fashion-mnist": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        *("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
        *("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    "kmnist": _idx(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        *("bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344"),
        *("5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134"),
    ),
    "cifar10": (
        _one(f"{_CIFAR}cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", partial(_binary_cifar, 0, 1)),
        _one(f"{_CIFAR}cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", partial(_pickled_cifar, "labels")),
    ),
    "cifar100": (
        _one(f"{_CIFAR}cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", partial(_binary_cifar, 1, 2)),
        _one(
            f"{_CIFAR}cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            partial(_pickled_cifar, "fine_labels"),
        ),
    ),
    "svhn": (
        Edition(
            (
                Original(f"{_SVHN}train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
                Original(f"{_SVHN}test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
            ),
            _svhn,
        ),
    ),
    "tiny-imagenet": (
        Edition(
            (Original("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),),
            lambda files: tiny_imagenet(files[0]),
            unpacked="wnids.txt",
        ),
    ),
}
"""Data set → its editions; the first is downloaded, the others are taken where somebody has them.

CIFAR-100's classes are the 100 fine ones. MD5s: CIFAR's from its authors' page, Tiny ImageNet's as those
who load it have it, the others as torchvision does.
"""
