"""Who trains the members of a round: this process, or workers beside it."""

from collections.abc import Iterator
from contextlib import contextmanager

from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import DataInfo
from lottery_ticket.engine.allocation import Allocation
from lottery_ticket.engine.job import Train
from lottery_ticket.engine.training import train
from lottery_ticket.engine.workers import Workers


@contextmanager
def trainer(settings: Settings, allocation: Allocation, info: DataInfo) -> Iterator[Train]:
    """What trains the members of a round: this process, or workers that live as long as the context."""
    if allocation.jobs == 1:
        yield train
    else:
        with Workers(settings, allocation.threads, info) as workers:
            yield workers.train
