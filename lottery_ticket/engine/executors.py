"""Who trains the members of a round: this process, workers beside it, or a guest."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from lottery_ticket import plugins
from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import Data, DataInfo
from lottery_ticket.engine.allocation import Allocation, Limit, stack_size
from lottery_ticket.engine.job import Member, Train, Trained
from lottery_ticket.engine.training import train
from lottery_ticket.engine.workers import Workers
from lottery_ticket.models.network import Network

Executor = Callable[[Settings, Allocation, DataInfo], AbstractContextManager[Train]]
"""From the settings with what `auto` stands for, how the members are spread, and what a network must know of the data
set, to a context within which there is a `Train`: the engine's, or what gives the same as it does."""


@contextmanager
def _here(settings: Settings, allocation: Allocation, info: DataInfo) -> Iterator[Train]:
    """This process."""
    yield train


@contextmanager
def _workers(settings: Settings, allocation: Allocation, info: DataInfo) -> Iterator[Train]:
    """Worker processes that live as long as the context."""
    with Workers(settings, allocation.threads, info) as workers:
        yield workers.train


EXECUTORS: dict[str, Executor] = {"here": _here, "workers": _workers}


def executor_named(name: str, jobs: int = 1) -> Executor:
    """The executor of that name, `auto` being workers where there are several jobs; InputError where there is none."""
    name = name if name != "auto" else "here" if jobs == 1 else "workers"
    found = plugins.named("executors", name, EXECUTORS, "--executor")
    if not callable(found) or not _takes(found, "settings", "allocation", "info"):
        wanted = "a lottery_ticket.engine.Executor, called with settings, allocation and info of the data"
        raise plugins.unfit("--executor", name, found, wanted)
    return found


def _takes(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether it can be called with so many arguments, as far as it tells."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # of what is not written in Python
        return True
    return True


@contextmanager
def trainer(settings: Settings, allocation: Allocation, info: DataInfo) -> Iterator[Train]:
    """What trains the members of a round, as long as the context lives, in stacks as large as fit in that round."""
    with executor_named(settings.executor, allocation.jobs)(settings, allocation, info) as train:
        yield train if allocation.limit is None else partial(_as_many_as_fit, train, allocation.limit)


def _as_many_as_fit(
    train: Train,
    limit: Limit,
    network: Network,
    members: Sequence[Member],
    data: Data,
    settings: Settings,
    *more: Any,
    **named: Any,
) -> list[Trained]:
    """`train`, with as many networks in a stack as fit in this round; `more` and `named` are its other arguments."""
    masks = [network.dense_mask() if member.multiplies_all else member.mask for member in members]
    size = stack_size(limit, network, masks, data, settings)
    return train(network, members, data, settings.model_copy(update={"stack": size}), *more, **named)
