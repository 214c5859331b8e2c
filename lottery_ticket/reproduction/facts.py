"""What judging has to know of a data set: from itself, or where it is not on this machine, from records."""

from collections.abc import Sequence
from typing import NamedTuple

from lottery_ticket.config import Settings
from lottery_ticket.data.images import Images
from lottery_ticket.engine.job import counts_images
from lottery_ticket.errors import InputError
from lottery_ticket.reproduction.records import Folder, Source


class DataFacts(NamedTuple):
    """What is known of a data set.

    Attributes:
        name, digest: as those of `Images`.
        train_size, test_size: images, held-out ones among the former. None: the records of before do not tell, and no
            length is in epochs.
        here: it is on this machine; else this is what records tell.
    """

    name: str
    digest: str
    train_size: int | None
    test_size: int
    here: bool = True

    def trained_on(self, settings: Settings) -> int:
        """Training images that are not held out; 0 where that is not known, and no length depends on it."""
        return 0 if self.train_size is None else self.train_size - settings.validation_size


def facts_of(images: Images) -> DataFacts:
    """Those of a data set that is on this machine."""
    return DataFacts(images.name, images.digest, len(images.y_train), len(images.y_test))


class StandIns:
    """Records that stand in for data sets which are not on this machine, where nothing is trained."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._told: dict[tuple[str, str], tuple[object, str]] = {}

    def of(self, settings: Settings, judged: Sequence[Settings]) -> DataFacts | None:
        """What the records of these settings tell of their data set; None where there are none of these settings.

        Args:
            settings: as they are asked for, lengths perhaps in epochs.
            judged: other settings on that data whose lengths have to be known in iterations.

        Raises:
            InputError: a record contradicts another, of these settings or of those that were asked for before, or
                none tells how many training images there are, where that has to be known.
        """
        sources = self.folder.of(settings)
        for source in sources:
            for what, value in _facts(source).items():
                if value is not None:
                    self._agree(source, what, value)
        if not sources:
            return None
        size = self._told.get((settings.dataset, _TRAIN_SIZE), (None, ""))[0]
        assert size is None or isinstance(size, int)
        if size is None and any(map(counts_images, (settings, *judged))):
            why = f"does not tell how many training images {settings.dataset} has, by which epochs are iterations"
            raise InputError("--records", sources[0].path, f"{why}; allowed: with that data set on this machine")
        return DataFacts(settings.dataset, sources[0].digest, size, sources[0].test_size, here=False)

    def _agree(self, source: Source, what: str, value: object) -> None:
        known, where = self._told.setdefault((source.dataset, what), (value, source.path))
        if known != value:
            why = f"was trained on another {source.dataset} than {where} ({what} {value}, there {known})"
            raise InputError("--records", source.path, f"{why}; allowed: files of the same data")


_TRAIN_SIZE = "training images"


def _facts(source: Source) -> dict[str, str | int | None]:
    return {"digest": source.digest, _TRAIN_SIZE: source.train_size, "test images": source.test_size}
