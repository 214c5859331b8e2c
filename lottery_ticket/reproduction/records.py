"""Finished trajectories of one seed as a small file, without weights: what a reproduction needs of them, anywhere."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lottery_ticket.config import Settings, StoredSettings
from lottery_ticket.engine.job import in_iterations
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.record import Record
from lottery_ticket.store.seal import seal, unseal

LARGEST = 64 * 2**20
"""Bytes of a file that is read: a hundred times what 35 rounds of five arms take."""

DESIGN = "design.json"
"""What says in a folder at how many seeds it ends, where they are added until all is decided."""


class Source(BaseModel):
    """All trajectories of one seed of some settings, and what made them.

    Attributes:
        settings: with this seed alone.
        dataset, digest: the name and digest of the data set.
        train_size: its training images, held-out ones among them; None: not told, in files of before.
        command, version, torch, hardware: what trained them; the version is lt's.
        run_id: of the run in the MLflow store that they were trained in.
        rounds: of every arm, without curves.
        path: the file that they are read from; empty where they come from the store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    settings: StoredSettings
    dataset: str
    digest: str
    command: str
    version: str
    torch: str
    hardware: str
    run_id: str
    rounds: list[Record]
    train_size: Annotated[int, Field(ge=1)] | None = None
    path: str = ""

    @property
    def test_size(self) -> int:
        """The test images of the data set."""
        return self.rounds[0].test_size

    @property
    def seed(self) -> int:
        """The seed."""
        return self.settings.seeds[0]


def but_seeds(settings: Settings) -> dict[str, str]:
    """The settings, as text, that trajectories of one kind have in common."""
    return {name: value for name, value in settings.training().items() if name != "seeds"}


def part_of(source: Source, settings: Settings) -> Source | None:
    """What a source has of these settings, all or the arms and first rounds of it; None where it is of others.

    A round does not know how many follow it, unless the last one's density makes that of every round; and where a
    criterion asks for gradients, the round before the next mask has paid for them, which a last one does not.
    """
    more = source.settings
    as_asked = more.model_copy(update={"arms": settings.arms, "rounds": settings.rounds})
    if but_seeds(as_asked) != but_seeds(settings) or not set(settings.arms) <= set(more.arms):
        return None
    rounds = [each for each in source.rounds if each.arm in settings.arms and each.round < settings.rounds]
    if more.rounds != settings.rounds:
        last = [each for each in rounds if each.round == settings.rounds - 1]
        by_rate = settings.density is None and settings.tensor_densities is None
        if more.rounds < settings.rounds or not by_rate or any(r.cost and r.cost.scored(r.sparse) for r in last):
            return None
    return source.model_copy(update={"rounds": rounds})


class Folder:
    """The files of a folder, which is made with the first that is added.

    Raises:
        InputError: it can be neither read nor written, or holds a damaged file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        there = next(each for each in (path, *path.parents) if each.exists())
        try:
            with TemporaryFile(dir=there):
                pass
            self._sources = [_read(file) for file in sorted(path.glob("*/seed*.json"))]
        except OSError as error:
            why = f"cannot be used ({one_line(error)}); allowed: a folder that can be read and written"
            raise InputError("--records", str(path), why) from None

    def find(self, settings: Settings, digest: str) -> dict[int, Source]:
        """Seed → what the folder has of these settings; InputError where that was trained on another data set.

        Trajectories that begin as these, and go on or have other arms beside them, will do (`part_of`).
        """
        parts = [part_of(source, settings) for source in self._sources]
        found = sorted(
            (each for each in parts if each), key=lambda each: but_seeds(each.settings) == but_seeds(settings)
        )
        for source in found:
            if source.digest != digest:
                why = f"was trained on another {source.dataset} (digest {source.digest}, here {digest})"
                raise InputError("--records", source.path, f"{why}; allowed: files of the same data")
        return {source.seed: source for source in found}

    def of(self, settings: Settings) -> list[Source]:
        """What the folder has of these settings, on whatever data: lengths in epochs are what they come to there."""
        parts = [part_of(each, _on_its_data(settings, each)) for each in self._sources]
        return [each for each in parts if each]

    def add(self, source: Source) -> None:
        """Write a file, where there is none of its settings and seed."""
        if source.path or source.seed in self.find(source.settings, source.digest):
            return
        kind = re.sub(r"[^\w.-]", "-", source.settings.model)
        own = hashlib.sha256(json.dumps(but_seeds(source.settings), sort_keys=True).encode()).hexdigest()[:10]
        path = self.path / f"{kind}-{own}" / f"seed{source.seed}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, source.model_dump_json(exclude={"path"}))
        self._sources.append(source.model_copy(update={"path": str(path)}))

    def most_seeds(self, asked: int | None) -> int | None:
        """At how many seeds it ends where they are added until all is decided: as asked, and as it was before.

        None where none are added. InputError where the two differ: each look's level depends on it.
        """
        path = self.path / DESIGN
        try:
            told = json.loads(unseal(path.read_bytes())) if path.exists() else {}
            before = int(told["max_seeds"]) if told else None
        except (OSError, ValueError, KeyError, TypeError, LotteryTicketError) as error:
            raise _damaged(path, error) from None
        if before and asked and before != asked:
            why = f"is not that of the folder {self.path}; allowed there: {before}"
            raise InputError("--max-seeds", asked, why)
        if asked and not before:
            self.path.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps({"max_seeds": asked}))
        return asked or before


def _on_its_data(settings: Settings, source: Source) -> Settings:
    """The settings with every length in iterations, by what the source tells of its data."""
    images = 0 if source.train_size is None else source.train_size - settings.validation_size
    return in_iterations(settings, images)


def sources_of(
    settings: Settings,
    digest: str,
    command: str,
    tags: Mapping[str, str],
    run_id: str,
    records: Sequence[Record],
    train_size: int | None = None,
) -> dict[int, Source]:
    """Seed → its part of the finished rounds of a run with these tags."""
    return {
        seed: Source(
            settings=settings.model_copy(update={"seeds": (seed,)}),
            dataset=settings.dataset,
            digest=digest,
            command=command,
            version=tags.get("lt.version", "?"),
            torch=tags.get("lt.torch", "?"),
            hardware=tags.get("lt.hardware", "?"),
            run_id=run_id,
            train_size=train_size,
            rounds=[each.model_copy(update={"curve": []}) for each in records if each.seed == seed],
        )
        for seed in settings.seeds
    }


def _write(path: Path, document: str) -> None:
    """The whole file or none."""
    new = path.with_name(f".{path.name}")
    new.write_text(seal(document), encoding="utf-8")
    new.replace(path)


def _read(path: Path) -> Source:
    if path.stat().st_size > LARGEST:
        raise InputError("--records", str(path), f"is too large; allowed: {LARGEST // 2**20} MiB")
    try:
        source = Source.model_validate_json(unseal(path.read_bytes()))
        if len(source.settings.seeds) != 1 or {record.seed for record in source.rounds} != {source.seed}:
            raise ValueError("it is not of one seed")
    except (ValueError, LotteryTicketError, RecursionError) as error:
        raise _damaged(path, error) from None
    return source.model_copy(update={"path": str(path)})


def _damaged(path: Path, error: Exception) -> InputError:
    why = "it has other keys" if isinstance(error, ValidationError) else one_line(error)
    return InputError("--records", str(path), f"cannot be read ({why}); allowed: files that `lt reproduce` wrote")
