"""An executor: as a cluster would, it gives each member to another worker, here one after another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lottery_ticket.config import Settings
from lottery_ticket.engine import Member, Train, Trained
from lottery_ticket.engine.training import train


@contextmanager
def one_by_one(settings: Settings, allocation: object, info: object) -> Iterator[Train]:
    """Train members alone."""

    def each(network, members: Sequence[Member], data, settings, round, snapshot_at=None, watch=None) -> list[Trained]:
        return [train(network, [member], data, settings, round, snapshot_at, watch)[0] for member in members]

    yield each
