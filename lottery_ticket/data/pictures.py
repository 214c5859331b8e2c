"""Data sets of encoded pictures, JPEG, PNG and the like: which there are, and one array of them, all of one size."""

import hashlib
import io
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lottery_ticket.errors import LotteryTicketError, one_line

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp")

Refuse = Callable[[str], LotteryTicketError]
"""Makes an error of the end of its line."""

_TESTED = 5
"""Of a folder without parts one picture of so many is for testing."""

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_GREY = {"1", "L", "LA"}


class Form(NamedTuple):
    """How pictures are taken: height and width (None: as they are, all alike), grey or not (None: grey if all are)."""

    size: tuple[int, int] | None
    grey: bool | None


class Picture(NamedTuple):
    """An encoded picture: what it is called, what reads its bytes, and its class, from 0."""

    name: str
    read: Callable[[], bytes]
    label: int


@dataclass(frozen=True)
class Pictures:
    """A data set of pictures that are not decoded yet.

    Attributes:
        parts: "train" and "test" → their pictures.
        classes: what each is called.
        state: digest of names, sizes and times of change, which another one has if anything is changed.
        notes: what the user should know, each a line.
    """

    parts: Mapping[str, Sequence[Picture]]
    classes: tuple[str, ...]
    state: str
    notes: tuple[str, ...] = ()


def parse_form(told: str) -> tuple[Path, Form]:
    """Of `PATH`, `PATH@64`, `PATH@48x64,grey` (height × width) the path and the form."""
    found = re.fullmatch(r"(.+?)(?:@([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?)?(?:,(grey|rgb))?", told, re.DOTALL)
    if found is None:
        return Path(told), Form(None, None)
    path, height, width, colour = found.groups()
    size = (int(height), int(width or height)) if height else None
    return Path(path), Form(size, None if colour is None else colour == "grey")


def in_folder(folder: Path, refuse: Refuse) -> Pictures:
    """The pictures of a folder as torchvision's ImageFolder has them, a folder for each class.

    These lie in `train` and `test` or `val`; where both are there, those of `val` join the training pictures. Or in the
    folder itself: then a fifth of each class is for testing, drawn from a fixed seed.
    """
    if not folder.is_dir():
        raise refuse(f"{'is no folder' if folder.exists() else 'is not there'}; allowed: a folder of pictures")
    notes = []
    if (folder / "train").is_dir():
        found = {part: _by_class(folder / part) for part in ("train", "val", "test")}
        classes = sorted(found["train"])
        trained, tested = ["train", "val"] if found["test"] else ["train"], "test" if found["test"] else "val"
        if unknown := sorted(set(found[tested]).union(*(found[part] for part in trained)) - set(classes)):
            raise refuse(f"has no pictures of {', '.join(unknown[:3])} in train; allowed: the classes of train")
        parts = {
            "train": [each for part in trained for each in _labelled(found[part], classes)],
            "test": _labelled(found[tested], classes),
        }
        if tested == "val":
            notes.append("val is what is tested on")
        elif found["val"]:
            notes.append("the pictures in val join the training images; --validation-size says how many are held out")
    else:
        by_class = _by_class(folder)
        classes = sorted(by_class)
        parts = divided(_labelled(by_class, classes))
        notes.append(f"no train and test: one picture of {_TESTED} of each class is for testing")
    if not parts["train"] or not parts["test"]:
        raise refuse(
            "has no pictures to train and to test on; allowed: train/CLASS and test/CLASS or val/CLASS, or CLASS, "
            f"with pictures ({', '.join(SUFFIXES)})"
        )
    files = [Path(each.name) for part in parts.values() for each in part]
    return Pictures(parts, tuple(classes), state_of(folder, files), tuple(notes))


def tiny_imagenet(place: Path) -> Pictures:
    """Tiny ImageNet from its zip or the folder in it: 200 classes, 64×64 pixels; its `val` is what is tested on.

    The pictures of its `test` have no labels. Errors are those of files that are not as they should be.
    """
    read: Callable[[str], bytes]
    if place.is_file():
        archive = zipfile.ZipFile(place)
        names, read = archive.namelist(), archive.read
        base = next(name for name in names if name.endswith("wnids.txt")).removesuffix("wnids.txt")
    else:
        names = [path.relative_to(place).as_posix() for path in sorted(place.rglob("*")) if path.is_file()]
        read, base = (lambda name: (place / name).read_bytes()), ""
    classes = sorted(read(f"{base}wnids.txt").decode().split())
    label = {name: index for index, name in enumerate(classes)}
    train = [
        Picture(name, partial(read, name), label[name.removeprefix(base).split("/")[1]])
        for name in names
        if name.startswith(f"{base}train/") and name.lower().endswith(SUFFIXES)
    ]
    told = [line.split("\t")[:2] for line in read(f"{base}val/val_annotations.txt").decode().splitlines()]
    test = [Picture(name, partial(read, f"{base}val/images/{name}"), label[which]) for name, which in told]
    notes = ("val is what is tested on: test has no labels",)
    return Pictures({"train": train, "test": test}, tuple(classes), "", notes)


def divided(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Pictures divided into those for training and testing, always the same way: a fifth of each class."""
    import torch

    from lottery_ticket.randomness import generator

    parts: dict[str, list[Picture]] = {"train": [], "test": []}
    for label in sorted({each.label for each in pictures}):
        own = [each for each in pictures if each.label == label]
        order = torch.randperm(len(own), generator=generator(0, "test split", label)).tolist()
        held = set(order[: max(1, len(own) // _TESTED)]) if len(own) > 1 else set()
        for index, each in enumerate(own):
            parts["test" if index in held else "train"].append(each)
    return parts


def state_of(folder: Path, files: Iterable[Path]) -> str:
    """A digest of the names, sizes and times of change of files in a folder."""
    digest = hashlib.sha256()
    for path in files:
        about = path.stat()
        digest.update(f"{path.relative_to(folder)}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def write_arrays(pictures: Pictures, form: Form, refuse: Refuse, folder: Path) -> tuple[str, ...]:
    """Decode pictures into `x_train.npy` and so on, uint8, N×H×W or N×H×W×3, one after another; the notes.

    Where a size is asked for, a picture is scaled until it just covers it, and its middle is taken. Transparency is
    left out.
    """
    (height, width), grey = _form(pictures, form, refuse)
    shape = (height, width) if grey else (height, width, 3)
    trained, tested = (max(each.label for each in pictures.parts[part]) for part in ("train", "test"))
    if tested > trained:
        raise refuse(f"has no training pictures of {pictures.classes[tested]}; allowed: some of each class")
    total = sum(map(len, pictures.parts.values()))
    if (needed := total * int(np.prod(shape))) > (free := shutil.disk_usage(folder).free):
        raise LotteryTicketError(
            f"{total:,} pictures take {needed:,} bytes in {folder.parent}, where {free:,} are free"
        )
    for part, own in pictures.parts.items():
        x = np.lib.format.open_memmap(folder / f"x_{part}.npy", "w+", np.uint8, (len(own), *shape))
        for index, picture in enumerate(own):
            x[index] = _decoded(picture, (height, width), grey, refuse)
        x.flush()
        np.save(folder / f"y_{part}.npy", np.array([picture.label for picture in own], np.int64))
    scaled = f"scaled to {height}×{width} pixels, the middle of those of another shape; " if form.size else ""
    colours = "grey" if grey else "red, green and blue"
    return (*pictures.notes, f"{total:,} pictures of {len(pictures.classes):,} classes, {scaled}{colours}")


def _form(pictures: Pictures, form: Form, refuse: Refuse) -> tuple[tuple[int, int], bool]:
    """Height and width, and whether in grey, of the pictures as they are to be."""
    if form.size and form.grey is not None:
        return form.size, form.grey
    sizes: dict[tuple[int, int], str] = {}
    grey = True
    for picture in (each for part in pictures.parts.values() for each in part):
        with _opened(picture, refuse) as image:
            sizes.setdefault((image.height, image.width), picture.name)
            grey &= image.mode in _GREY
        if len(sizes) > 1 and form.size is None:
            (one, first), (other, second), *_ = sizes.items()
            raise refuse(
                f"has pictures of {one[0]}×{one[1]} ({first}) and {other[0]}×{other[1]} ({second}) pixels; allowed: "
                "all of one size, or the size to scale them to, as PATH@64 or PATH@48x64 (height × width)"
            )
    return form.size or next(iter(sizes)), grey if form.grey is None else form.grey


def _decoded(picture: Picture, size: tuple[int, int], grey: bool, refuse: Refuse) -> np.ndarray:
    from PIL import Image, ImageOps

    with _opened(picture, refuse) as image:
        try:
            made = image.convert("L" if grey else "RGB")
            if (made.height, made.width) != size:
                made = ImageOps.fit(made, size[::-1], Image.Resampling.BILINEAR)
            return np.asarray(made)
        except Exception as error:
            raise _unreadable(picture, error, refuse) from None


def _opened(picture: Picture, refuse: Refuse) -> "Image.Image":
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(picture.read()))
    except Exception as error:
        raise _unreadable(picture, error, refuse) from None
    if image.mode not in _MODES:
        raise refuse(f"has {picture.name} of mode {image.mode}; allowed: 8 bits a channel, grey or in colours")
    return image


def _unreadable(picture: Picture, error: Exception, refuse: Refuse) -> LotteryTicketError:
    return refuse(f"has {picture.name}, which cannot be read ({one_line(error)}); allowed: whole pictures")


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """Class → its pictures, in and below the folder of that name, in order; empty where there is no such folder."""
    found = {}
    for own in sorted(folder.iterdir()) if folder.is_dir() else []:
        if own.is_dir() and not own.name.startswith("."):
            below = (Path(where, name) for where, _, names in os.walk(own) for name in names)
            if pictures := sorted(path for path in below if path.suffix.lower() in SUFFIXES):
                found[own.name] = pictures
    return found


def _labelled(by_class: Mapping[str, Sequence[Path]], classes: Sequence[str]) -> list[Picture]:
    return [Picture(str(p), p.read_bytes, label) for label, name in enumerate(classes) for p in by_class.get(name, ())]
