"""Whatever strangers hand in, no test here takes more memory or time than the operating system lets it."""

import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Done, Lt, environment
from tests.help import launcher

ROOM, SECONDS = 2 * 2**30, 60
"""Bytes beside what a process has, and seconds of the processor beside what it took."""


def limits() -> dict[int, int]:
    """What the limits of this process are then."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    return {resource.RLIMIT_AS: taken + ROOM, resource.RLIMIT_CPU: int(used) + SECONDS}


def bound(then: launcher.Before = None) -> None:
    """Bound this process for good, before what else is to be done in it."""
    for kind, limit in limits().items():
        resource.setrlimit(kind, (limit, limit))
    if then:
        then()


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """The test's own process, and those that it starts."""
    before = {kind: resource.getrlimit(kind) for kind in limits()}
    for kind, limit in limits().items():
        resource.setrlimit(kind, (limit, before[kind][1]))
    yield
    for kind, limit in before.items():
        resource.setrlimit(kind, limit)


@pytest.fixture
def lt(tmp_path: Path) -> Lt:
    """As everywhere, within bounds."""

    def run(*arguments: object, timeout: float = 300, before: launcher.Before = None, **variables: str) -> Done:
        environ = environment(**variables)
        return Done(*launcher.run([*map(str, arguments)], tmp_path, environ, timeout, partial(bound, before)))

    return run
