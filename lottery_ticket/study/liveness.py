"""Which trials are alive: signs of life of those trained here, an end to those whose process gives none."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from lottery_ticket.study import storage


def beat(study: optuna.Study, trial: optuna.Trial) -> None:
    """Tell the storage that a trial is being trained."""
    # Only Study.optimize does this by itself; Trial and Study have no public way to it.
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]


@contextmanager
def heartbeat(study: optuna.Study, trials: Callable[[], Iterable[optuna.Trial]]) -> Iterator[None]:
    """Within it, the trials that `trials` tells are known to be trained."""
    ended = threading.Event()

    def beats() -> None:
        while not ended.wait(storage.HEARTBEAT):
            for trial in trials():
                with suppress(Exception):  # a storage that is away for a while is not the trial's end
                    beat(study, trial)

    thread = threading.Thread(target=beats, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Watch:
    """Looks again and again for trials whose process is not heard of any more; they fail, and wait to be tried again.

    Args:
        study: whose trials.
        searched: the settings that it searches; a trial that lacks some was given up while it was proposed.
    """

    def __init__(self, study: optuna.Study, searched: Iterable[str]) -> None:
        self._study, self._searched = study, set(searched)
        self._silent: dict[int, float] = {}

    def give_up_stale(self) -> None:
        """Look now."""
        fail_stale_trials(self._study)
        silent = storage.without_heartbeat(self._study)  # killed before the first
        self._silent = {number: self._silent.get(number, time.monotonic()) for number in silent}
        for number, seen in self._silent.items():
            if time.monotonic() - seen > storage.GRACE:
                with suppress(ValueError):  # another process did it
                    left = self._study.tell(number, state=TrialState.FAIL)
                    if left.params.keys() == self._searched:
                        _try_again(self._study, left)


def leave(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    """End a trial that is to be tried again, and tell what is known of it."""
    left = study.tell(trial, state=TrialState.FAIL)
    _try_again(study, left)
    return left


def _try_again(study: optuna.Study, left: FrozenTrial) -> None:
    RetryHeartbeatStaleTrialCallback()(study, left)
