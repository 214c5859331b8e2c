"""Published files brought here: downloaded, or from a folder, file or mirror that somebody names; checked by MD5."""

import hashlib
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from lottery_ticket.address import public
from lottery_ticket.data.originals import Edition, Original
from lottery_ticket.errors import InputError, LotteryTicketError, one_line

WAIT = 60
"""Seconds without an answer after which a server is given up."""

_PIECE = 2**20


def bring(editions: Sequence[Edition], source: str | None, work: Path) -> tuple[Edition, list[Path]]:
    """One of the editions and where its files are, each with the right MD5, or the folder of what they hold.

    Args:
        editions: of the data set, the one to download first.
        source: a folder that has the files of an edition, in it or up to two folders deeper; the one file of an
            edition, whatever it is called; the address of a mirror or a file; None = where the authors publish it.
        work: a folder for what is downloaded.

    Raises:
        InputError: the folder or file is not there or holds something else.
        LotteryTicketError: a download failed or has another MD5.
    """
    if source is None or source.startswith(("http://", "https://")):
        edition = next((each for each in editions if source and source.endswith(each.files[0].name)), editions[0])
        return edition, [_downloaded(file, _address(file, source), work / file.name) for file in edition.files]
    place = Path(source)
    allowed = f"allowed: {' or '.join(_listed(each) for each in editions)}, or a folder or an address with that"
    try:
        if place.is_file():
            sum_ = md5_of(place)
            for edition in editions:
                if [file.md5 for file in edition.files] == [sum_]:
                    return edition, [place]
            raise InputError("--from", source, f"has the MD5 {sum_}; {allowed}")
        for edition in editions:
            if edition.unpacked and (unpacked := _found(edition.unpacked, place)):
                return edition, [unpacked.parent]
            found = [_found(file.name, place) for file in edition.files]
            if all(found):
                paths = [path for path in found if path]
                for file, path in zip(edition.files, paths, strict=True):
                    if (sum_ := md5_of(path)) != file.md5:
                        why = f"has {path} with the MD5 {sum_}; allowed: {file.name} with {file.md5}"
                        raise InputError("--from", source, why)
                return edition, paths
    except OSError as error:
        raise InputError("--from", source, f"cannot be read ({one_line(error)}); {allowed}") from None
    raise InputError("--from", source, f"{'lacks them' if place.is_dir() else 'is not there'}; {allowed}")


def md5_of(path: Path) -> str:
    """The MD5 of a file, as published sums are."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _listed(edition: Edition) -> str:
    return ", ".join(file.name for file in edition.files)


def _found(name: str, place: Path) -> Path | None:
    for depth in ("", "*/", "*/*/"):
        for path in sorted(place.glob(depth + name)):
            if path.is_file():
                return path
    return None


def _address(file: Original, source: str | None) -> str:
    if source is None or source.endswith(file.name):
        return source or file.url
    return f"{source.rstrip('/')}/{file.name}"


def _downloaded(file: Original, url: str, target: Path) -> Path:
    try:
        with urllib.request.urlopen(url, timeout=WAIT) as answer, target.open("wb") as kept:
            shutil.copyfileobj(answer, kept, _PIECE)
    except (OSError, ValueError) as error:
        raise LotteryTicketError(f"{public(url)} does not come ({one_line(error)})") from error
    if (sum_ := md5_of(target)) != file.md5:
        raise LotteryTicketError(f"{public(url)} has the MD5 {sum_}, not {file.md5}")
    return target
