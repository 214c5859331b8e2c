"""Kernels side by side: on no more threads than torch has, in a forked process too, and alike on each."""

import os
import signal
import threading
import time
import warnings

import pytest
import torch

from lottery_ticket.engine.sparse.threads import side_by_side


@pytest.fixture
def threads():
    """Sets how many threads torch has, for the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def who_takes_what(count):
    """Thread → what of range(count) it was given."""
    taken = {}

    def kernel(begin, end):
        time.sleep(0.02)  # so that no thread is free again for a second part
        taken.setdefault(threading.get_ident(), []).extend(range(begin, end))

    side_by_side(kernel, count)
    return taken


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_as_many_threads_as_torch_has(threads, allowed):
    threads(allowed)
    for count in (1, 2, 7):
        taken = who_takes_what(count)
        assert len(taken) == min(allowed, count)
        assert threading.get_ident() in taken
        assert sorted(place for part in taken.values() for place in part) == list(range(count))


def test_a_forked_process_has_threads_of_its_own(threads):
    """The pool of the process that it was forked from has no threads there: waiting for them would never end."""
    threads(2)
    assert len(who_takes_what(4)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that forking with threads may hang: this is the test
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if len(who_takes_what(4)) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_denormals_are_the_same_on_all_threads(threads):
    threads(2)
    for flush in (True, False):
        torch.set_flush_denormal(flush)
        found = {}

        def kernel(begin, end, found=found):
            time.sleep(0.02)
            found[begin] = bool(torch.tensor([1e-40]).mul(1.0))

        side_by_side(kernel, 2)
        assert found == {0: not flush, 1: not flush}
    torch.set_flush_denormal(False)
