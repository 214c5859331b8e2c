"""Data sets by name: packaged MNIST, published sets in a cache, files and folders, a guest's."""

import gzip
import hashlib
import os
import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lottery_ticket import plugins, shipped
from lottery_ticket.data import arrays, npz
from lottery_ticket.data.fetching import bring
from lottery_ticket.data.images import KEYS, Images
from lottery_ticket.data.meaning import understand
from lottery_ticket.data.originals import PUBLISHED, read_idx
from lottery_ticket.data.pictures import Form, Pictures, in_folder, parse_form, write_arrays
from lottery_ticket.data.saved import saved_on_disk
from lottery_ticket.errors import InputError, LotteryTicketError, one_line, unknown


@dataclass(frozen=True)
class Known:
    """A data set known by name: one image's shape (H, W) or (H, W, C), classes, and the suffix in the cache.

    Without a suffix it is a folder of arrays, of which no more is read than is needed.
    """

    shape: tuple[int, ...]
    classes: int
    suffix: str = ".npz"


KNOWN = {
    "mnist": Known((28, 28), 10),
    "fashion-mnist": Known((28, 28), 10),
    "kmnist": Known((28, 28), 10),
    "cifar10": Known((32, 32, 3), 10),
    "cifar100": Known((32, 32, 3), 100),
    "svhn": Known((32, 32, 3), 10),
    "tiny-imagenet": Known((64, 64, 3), 200, suffix=""),
}

_PICTURES = {"folder": in_folder, "hf": saved_on_disk}
"""What `folder:PATH` and `hf:PATH` are read by."""

_PICTURES_VERSION = 1
"""Goes up when pictures are made other arrays of than before."""

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
    return cache_folder() / f"{name}{KNOWN[name].suffix}"


def at_hand(name: str) -> bool:
    """Whether a data set is on this machine, so that nothing must be fetched or asked for to load it."""
    if name == "mnist" or name in plugins.installed("datasets"):
        return True
    if plugins.is_code(name):
        return False
    scheme, _, told = name.partition(":")
    place = cached(name) if name in KNOWN else parse_form(told)[0] if scheme in _PICTURES else Path(name)
    return place.exists()


def fetch(name: str, source: str | None = None) -> Path:
    """Bring a data set into the cache with its digest; it appears there whole or not at all.

    Args:
        name: one of `KNOWN` that is not packaged.
        source: a folder or file with what its authors publish, or a mirror's address; None = download it from them.

    Raises:
        InputError: there is nothing of that at `source`.
        LotteryTicketError: it cannot be downloaded, has another MD5, or cannot be kept.
    """
    if name not in PUBLISHED:
        raise InputError("NAME", name, "is packaged and needs no fetching; allowed: the others of `lt data`")
    target, editions = cached(name), PUBLISHED[name]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            edition, files = bring(editions, source, Path(work))
            found = edition.read(files)
            if isinstance(found, Pictures):
                form = Form(KNOWN[name].shape[:2], False)  # type: ignore[arg-type]
                arrays.keep(
                    target, name, str(files[0]), lambda folder: write_arrays(found, form, LotteryTicketError, folder)
                )
            else:
                x_train, y_train, x_test, y_test = (found[key] for key in KEYS)
                digest = Images(name, str(target), x_train, y_train, x_test, y_test).digest
                whole = Path(work) / "whole.npz"
                np.savez_compressed(whole, **found, **{npz.DIGEST: np.array(digest)})  # type: ignore[arg-type]
                os.replace(whole, target)
    except InputError:
        raise
    except Exception as error:
        why = str(error) if isinstance(error, LotteryTicketError) else one_line(error)
        files_of = ", ".join(file.name for file in editions[0].files)
        raise LotteryTicketError(
            f"--dataset {name} could not be fetched into {target.parent}: {why}; without a network, "
            f"lt data fetch {name} --from FOLDER takes {files_of}, or --dataset any .npz with {', '.join(KEYS)}"
        ) from error
    return target


def mnist() -> Images:
    """The packaged MNIST; InputError where its files are damaged."""
    folder = shipped.folder("mnist")
    found = []
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
        found.append(read_idx(gzip.decompress(raw)))
    x_train, y_train, x_test, y_test = found
    return Images("mnist", str(folder), x_train, y_train.astype(np.int64), x_test, y_test.astype(np.int64))


def load_images(name: str, option: str = "--dataset", digest: str | None = None) -> Images:
    """A data set by name (fetched into the cache if need be), from pictures, arrays on disk, or what a guest makes.

    A guest is a function without arguments that returns `Images`; who calls this sees to it that the user has named
    it, where it is code.

    `folder:PATH` and `hf:PATH` are pictures (`lottery_ticket.data.pictures`, `.saved`), which become arrays in the
    cache when they are first asked for. An .npz, or a folder of .npy files, holds `x_train, y_train, x_test, y_test`:
    images N×H×W, N×H×W×C or N×D as uint8 or float32, labels as integers from 0; what `lottery_ticket.data.meaning` can
    make that is taken as well.

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
        return _from_cache(name, option, digest)
    if name.partition(":")[0] in _PICTURES and not plugins.is_code(name):
        return _of_pictures(name, option)
    if name.endswith(".npz"):
        return npz.read(Path(name), Path(name).stem, option, digest)
    if Path(name).is_dir():
        return arrays.read(Path(name), Path(name).resolve().name, option)
    if not plugins.is_code(name) and name not in plugins.installed("datasets"):
        files = ("folder:PATH", "hf:PATH", "the path of an .npz file or of a folder of .npy files")
        raise unknown(option, name, [*KNOWN, *plugins.installed("datasets"), *files, "module:name"])
    make = plugins.named("datasets", name, {}, option)
    try:
        images = make()
    except (Exception, SystemExit) as error:
        raise InputError(option, name, f"could not be made: {one_line(error)}") from error
    if not isinstance(images, Images):
        raise InputError(option, name, f"gives a {type(images).__name__}; allowed: lottery_ticket.data.Images")

    def refuse(why: str) -> InputError:
        return InputError(option, name, why)

    made = {key: np.asarray(getattr(images, key)) for key in KEYS}
    return understand(made, {key: key for key in KEYS}, images.name, images.source, refuse)


def _from_cache(name: str, option: str, digest: str | None) -> Images:
    """A data set that is fetched, now if need be, with the digest that it was kept with."""
    path, known = cached(name), KNOWN[name]
    if not path.exists():
        fetch(name)

    def refuse(why: str, allowed: str) -> InputError:
        return InputError(
            option, name, f"in the cache ({path}) {why}; allowed: {allowed} (delete it to fetch it again)"
        )

    try:
        if known.suffix:
            images, kept = npz.read(path, name, option, digest), npz.kept_digest(path)
        else:
            images = arrays.read(path, name, option)
            kept = images.digest
    except InputError as error:
        raise refuse(error.allowed.partition("; allowed")[0], "what was fetched") from None
    if images.x_train.shape[1:] != known.shape or images.classes != known.classes:
        has = f"has images {images.x_train.shape[1:]} in {images.classes} classes"
        raise refuse(has, f"{known.shape} in {known.classes}")
    if kept is None:
        return replace(images, notes=(*images.notes, f"{path} has no digest to check it by"))
    if kept != images.digest:
        raise refuse(f"is damaged: its digest is {images.digest}", kept)
    return images


def _of_pictures(name: str, option: str) -> Images:
    """Pictures as arrays in the cache, made anew where any of them has changed; none of another state is kept."""
    scheme, _, told = name.partition(":")
    place, form = parse_form(told)

    def refuse(why: str) -> InputError:
        return InputError(option, name, why)

    pictures = _PICTURES[scheme](place, refuse)
    where = hashlib.sha256(f"{scheme}:{place.resolve()} {form}".encode()).hexdigest()[:12]
    called = re.sub(r"[^\w.-]", "-", place.resolve().name)[:60]
    state = hashlib.sha256(f"{pictures.state} {_PICTURES_VERSION}".encode()).hexdigest()[:12]
    folder = cache_folder() / "pictures" / f"{called}-{where}-{state}"
    if not arrays.is_there(folder):
        try:
            arrays.keep(folder, called, str(place), lambda work: write_arrays(pictures, form, refuse, work))
        except OSError as error:
            raise LotteryTicketError(f"{option} {name} could not be kept in {folder}: {one_line(error)}") from error
        arrays.forget([each for each in folder.parent.glob(f"{called}-{where}-*") if each != folder])
    return arrays.read(folder, called, option)
