"""A ticket on disk: a folder that is written whole or not at all, and checked from end to end when it is read.

It holds `ticket.json` (what it is; see `Card`) and `ticket.safetensors`: for each prunable tensor `mask:NAME`, for
each parameter and buffer `start:NAME` and, where the ticket was saved with them, `trained:NAME`, in the format of
`lottery_ticket.tickets.files`, the names `names.escaped`.
"""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from lottery_ticket.config import StoredSettings
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.models.fingerprint import Fingerprint
from lottery_ticket.models.prunable import Inventory
from lottery_ticket.names import escaped, is_name, unescaped
from lottery_ticket.tickets.files import MOST_BYTES, read_tensors, write_tensors
from lottery_ticket.tickets.reference import CARD, TENSORS, must_be_folder, no_folder
from lottery_ticket.tickets.ticket import Metrics, Origin, Ticket
from lottery_ticket.untrusted import must_be_new, unprintable

SCHEMA_VERSION = 1
_LARGEST_CARD = 2**24  # bytes


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shape(_Part):
    """A parameter or buffer: its shape, and whether it may be pruned."""

    shape: tuple[NonNegativeInt, ...]
    prunable: bool


class Architecture(_Part):
    """The network a ticket is of: its name, the shape of one image as it takes it (if known), and its tensors."""

    model: str
    input_shape: tuple[int, ...] | None
    classes: int | None
    tensors: dict[str, Shape]


class FileInfo(_Part):
    """A file's length and SHA-256."""

    bytes: NonNegativeInt
    sha256: str


class Card(_Part):
    """`ticket.json`. `sha256` is that of this document less `sha256`, see `card_digest`."""

    schema_version: int
    architecture: Architecture
    density: Annotated[float, Field(ge=0, le=1)]
    dataset: DataInfo | None
    settings: StoredSettings
    metrics: Metrics
    origin: Origin
    files: dict[str, FileInfo]
    network: Fingerprint | None = None
    inventory: Inventory | None = None
    sha256: str = ""


def card_digest(told: dict[str, Any]) -> str:
    """SHA-256 of a `ticket.json` less its `sha256`: as JSON, keys sorted, without white space."""
    plain = {key: value for key, value in told.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_folder(ticket: Ticket, folder: Path) -> Path:
    """Write a ticket; see `Ticket.save`."""
    must_be_new(folder)
    if wrong := ticket.fault():
        raise LotteryTicketError(f"{ticket.name} {wrong}")
    made = folder.parent / f".{folder.name[:60]}-{uuid4().hex[:12]}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.mkdir()
        _write(ticket, made)
        must_be_new(folder)
        os.rename(made, folder)
    except OSError as error:
        raise LotteryTicketError(f"{folder} cannot be written: {one_line(error)}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def read_folder(folder: Path, option: str = "TICKET") -> Ticket:
    """The ticket in a folder, checked from end to end; InputError where it is not what it must be."""

    def refuse(why: str) -> InputError:
        return no_folder(folder, option, why)

    must_be_folder(folder, option)
    try:
        if (folder / CARD).stat().st_size > _LARGEST_CARD:
            raise refuse(f"has a {CARD} of over {_LARGEST_CARD:,} bytes")
        told = json.loads((folder / CARD).read_bytes(), parse_constant=_no_number)
        version = told.get("schema_version") if isinstance(told, dict) else None
        if type(version) is not int or version < 1:
            raise refuse(f"has a {CARD} that names no schema version")
        if version > SCHEMA_VERSION:
            raise refuse(f"is of schema version {version}, newer than this lt, which reads {SCHEMA_VERSION}")
        if told.get("sha256") != card_digest(told):
            raise refuse(f"has a {CARD} that was changed: its SHA-256 is not the one it names")
        if odd := unprintable(told):
            raise refuse(f"has a {CARD} with characters that do not print, in {odd!a}")
        card = Card.model_validate(told)
    except (OSError, ValueError, RecursionError) as error:
        why = error.errors()[0] if isinstance(error, ValidationError) else None
        where = f"{'.'.join(map(str, why['loc']))}: {why['msg']}" if why else one_line(error)
        raise refuse(f"has a {CARD} that is not valid ({where})") from None
    built, data = card.architecture, card.dataset
    if (built.model, built.input_shape, built.classes) != (
        card.settings.model, *((data.input_shape, data.classes) if data else (None, None))
    ):  # fmt: skip
        raise refuse(f"has a {CARD} whose architecture is not that of its settings and data set")
    expected, length = card.files.get(TENSORS), (folder / TENSORS).stat().st_size
    if length > MOST_BYTES:
        raise refuse(f"has a {TENSORS} of {length:,} bytes; at most {MOST_BYTES:,} are read")
    if expected is None or length != expected.bytes:
        raise refuse(f"has a {TENSORS} of {length:,} bytes, not {expected.bytes if expected else 0:,}")
    if _file_info(folder / TENSORS).sha256 != expected.sha256:
        raise refuse(f"has a {TENSORS} with another SHA-256 than {CARD} names")
    try:
        tensors = read_tensors(folder / TENSORS)
    except LotteryTicketError as error:
        raise refuse(f"is damaged: {error}") from None
    parts: dict[str, dict[str, torch.Tensor]] = {"mask": {}, "start": {}, "trained": {}}
    for key, value in tensors.items():
        part, _, name = key.partition(":")
        with suppress(ValueError):
            name = unescaped(name)
        if part not in parts or not is_name(name) or name in parts[part]:
            raise refuse(f"has a tensor named {key!r}")
        parts[part][name] = value
    shapes = card.architecture.tensors
    for part, named in parts.items():
        wanted = {name for name, shape in shapes.items() if shape.prunable or part != "mask"}
        if named.keys() != wanted and (named or part != "trained"):
            raise refuse(f"has other {part} tensors than {CARD} names")
        for name, value in named.items():
            if tuple(value.shape) != shapes[name].shape or (value.dtype == torch.bool) != (part == "mask"):
                raise refuse(f"has a tensor {part}:{name} of shape {tuple(value.shape)}, not {shapes[name].shape}")
    ticket = Ticket(
        mask=parts["mask"],
        weights=parts["start"],
        settings=card.settings,
        found_on=card.dataset,
        metrics=card.metrics,
        origin=card.origin,
        trained=parts["trained"] or None,
        fingerprint=card.network,
        inventory=card.inventory,
    )
    if wrong := ticket.fault():
        raise refuse(wrong)
    return ticket


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _write(ticket: Ticket, folder: Path) -> None:
    tensors = {f"mask:{escaped(name)}": kept for name, kept in ticket.mask.items()}
    masks = {}
    for part, values in (("start", ticket.weights), ("trained", ticket.trained or {})):
        for name, value in values.items():
            key = escaped(name)
            tensors[f"{part}:{key}"] = value
            if name in ticket.mask:
                masks[f"{part}:{key}"] = f"mask:{key}"
    write_tensors(folder / TENSORS, tensors, masks)
    architecture = Architecture(
        model=ticket.settings.model,
        input_shape=ticket.found_on.input_shape if ticket.found_on else None,
        classes=ticket.found_on.classes if ticket.found_on else None,
        tensors={
            name: Shape(shape=tuple(value.shape), prunable=name in ticket.mask)
            for name, value in ticket.weights.items()
        },
    )
    card = Card(
        schema_version=SCHEMA_VERSION,
        architecture=architecture,
        density=ticket.density,
        dataset=ticket.found_on,
        settings=ticket.settings,
        metrics=ticket.metrics,
        origin=ticket.origin,
        files={TENSORS: _file_info(folder / TENSORS)},
        network=ticket.fingerprint,
        inventory=ticket.inventory,
    )
    told = card.model_dump(mode="json", exclude={"sha256"})
    text = json.dumps(told | {"sha256": card_digest(told)}, indent=2)
    if len(text) > _LARGEST_CARD:
        raise LotteryTicketError(f"{ticket.name} has so many tensors that its {CARD} would not be read again")
    (folder / CARD).write_text(text, encoding="utf-8")


def _file_info(path: Path) -> FileInfo:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileInfo(bytes=path.stat().st_size, sha256=digest)
