"""Data sets of anybody's: the arrays of an .npz, read without running or believing anything that stands in it."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lottery_ticket import memory
from lottery_ticket.data.images import KEYS, Images
from lottery_ticket.data.meaning import understand
from lottery_ticket.errors import InputError, one_line

MOST_BYTES = 2**33
"""Of all arrays of an .npz together; a file that declares more is refused before room is made for them."""

_ALLOWED = f"allowed: an .npz with {', '.join(KEYS)}"

_ALWAYS, _EACH = 2**26, 100
"""Bytes that any file may declare, and that it may for each byte of its own, whichever is more.

Images deflate to a half or a tenth (MNIST: a fifth), nothing but zeros to a thousandth.
"""

DIGEST = "digest"
"""What the cache calls the digest of the arrays beside it, that of `Images`."""

_VALIDATION = ("x_val", "y_val")
_ALL_KEYS = (*KEYS, *_VALIDATION)
_NAMES = (
    _ALL_KEYS,
    ("train_images", "train_labels", "test_images", "test_labels", "val_images", "val_labels"),  # as MedMNIST has them
)
"""How files call the arrays of `_ALL_KEYS`, in upper or lower case."""


def read(path: Path, name: str, option: str, digest: str | None = None) -> Images:
    """The data set in an .npz; see `lottery_ticket.data.sources.load_images`."""

    def refuse(why: str) -> InputError:
        return InputError(option, str(path), why)

    called = outline(path, option)
    with _readable(refuse), np.load(path, allow_pickle=False) as file:
        arrays = {key: file[member] for key, member in called.items()}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise TypeError("its members are no arrays")
    try:
        images = understand(arrays, called, name, str(path), refuse)
    except InputError:
        if before := _as_it_stands(arrays, name, path, digest):
            return before
        raise
    if digest in (None, images.digest):
        return images
    return _as_it_stands(arrays, name, path, digest) or images


def outline(path: Path, option: str) -> dict[str, str]:
    """Which member of an .npz is which array; InputError where its headers show that it is no data set."""

    def refuse(why: str) -> InputError:
        return InputError(option, str(path), why)

    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise refuse(f"is no file; {_ALLOWED}")
    with _readable(refuse):
        called, declared, values = _outline(path)
        length = path.stat().st_size
    if missing := [key for key in KEYS if key not in called]:
        raise refuse(f"lacks {', '.join(missing)}; {_ALLOWED}")
    if len(validation := [called[key] for key in _VALIDATION if key in called]) == 1:
        raise refuse(f"has {validation[0]} alone; allowed: validation images and their labels, or neither")
    allowed = min(MOST_BYTES, max(_ALWAYS, _EACH * length))
    # as they are, in float32, and once more while they are made so
    if why := memory.too_much(declared, allowed, length, needed=declared + 2 * 4 * values):
        raise refuse(why)
    return called


@contextmanager
def _readable(refuse: Callable[[str], InputError]) -> Iterator[None]:
    """Within it, what a file that is no .npz raises is refused."""
    try:
        yield
    except (
        OSError,
        ValueError,
        EOFError,
        RuntimeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise refuse(f"cannot be read as .npz ({one_line(error)}); {_ALLOWED}") from None


def kept_digest(path: Path) -> str | None:
    """The digest that an .npz, one that `read` takes, has beside its arrays; None where there is none."""
    with np.load(path, allow_pickle=False) as file:
        return str(file[DIGEST]) if DIGEST in file else None


def _as_it_stands(arrays: Mapping[str, np.ndarray], name: str, path: Path, digest: str | None) -> Images | None:
    """The four arrays as version 0.3 took them, if they have this digest."""
    x_train, y_train, x_test, y_test = (arrays[key] for key in KEYS)
    if digest is None or not (y_train.dtype.kind in "iu" and y_test.dtype.kind in "iu"):
        return None
    before = Images(name, str(path), x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))
    return before if before.digest == digest else None


def _outline(path: Path) -> tuple[dict[str, str], int, int]:
    """Which member of the archive is which array, and the bytes and values that they declare.

    Counted before room is made for any of them. The errors are those of zipfile and numpy.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        called = _called(list(members))
        chosen = [members[member] for member in called.values()]
        in_archive, in_headers, values = sum(info.file_size for info in chosen), 0, 0
        if in_archive > MOST_BYTES:
            return called, in_archive, in_archive
        for info in chosen:
            with archive.open(info) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            in_headers += math.prod(shape) * dtype.itemsize
            values += math.prod(shape)
    return called, in_headers, values


def _called(members: Sequence[str]) -> dict[str, str]:
    """The keys of `_ALL_KEYS` that are there, and how they are called: as in the first of `_NAMES` that is whole."""
    lower = {member.lower(): member for member in members} | {member: member for member in members}
    found = [
        {key: lower[word] for key, word in zip(_ALL_KEYS, words, strict=True) if word in lower} for words in _NAMES
    ]
    return next((called for called in found if called.keys() >= set(KEYS)), found[0])
