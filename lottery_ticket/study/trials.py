"""The finished trials of a study, as Optuna's storage has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from lottery_ticket.study.accuracies import Accuracies
from lottery_ticket.study.names import MARGIN

RUN_ID = "mlflow_run_id"
"""The attribute of a study or trial that names its run in MLflow."""

REFUSED = "refused"
"""The attribute of a failed trial that says why its settings cannot be run; it is not tried again."""

SURPLUS = "surplus"
"""The attribute of a failed trial that several processes began when only one was wanted."""

PHASE, MEASURES, ENDED, SAVED, ROUNDS = "phase", "measures", "ended_early", "seconds_saved", "rounds"

ACCURACIES = "accuracies"
"""The attribute of a finished trial of a study that tunes: see `lottery_ticket.study.accuracies`."""


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        number: Optuna's.
        params: what was searched, by setting.
        phase: `winning`, `matching` or `none`, see `lottery_ticket.study.measures.phase`; empty where it is not judged.
        measures: by name; see `lottery_ticket.study.measures`.
        ended_early: why it was ended before its last round; empty where it was not.
        seconds_saved: of training, by that; an estimate.
        run_id: of its run in MLflow.
        best: whether no other trial is better in all that the study looks for (the Pareto front).
        accuracies: of its networks, where the study tunes.
    """

    number: int
    params: dict[str, Any]
    phase: str
    measures: dict[str, float]
    ended_early: str
    seconds_saved: float
    run_id: str
    best: bool
    accuracies: tuple[Accuracies, ...] = ()


def finished(study: optuna.Study) -> list[Trial]:
    """The complete trials of a study, in order of number."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = {trial.number for trial in study.best_trials} if complete else set()
    return [_trial(each, each.number in best) for each in complete]


def _trial(trial: FrozenTrial, best: bool) -> Trial:
    told = trial.user_attrs
    return Trial(
        number=trial.number,
        params=dict(trial.params),
        phase=told[PHASE],
        measures=dict(told[MEASURES]),
        ended_early=told[ENDED],
        seconds_saved=told[SAVED],
        run_id=told[RUN_ID],
        best=best,
        accuracies=tuple(Accuracies(*each) for each in told.get(ACCURACIES, ())),
    )


def margins(trials: Sequence[Trial]) -> list[tuple[dict[str, Any], float]]:
    """(params, winning margin) of trials, for `lottery_ticket.study.boundary`."""
    return [(trial.params, trial.measures[MARGIN]) for trial in trials]


def running(study: optuna.Study) -> int:
    """How many trials are running, here and in other processes."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def studies(storage: BaseStorage) -> list[dict[str, Any]]:
    """The studies in a storage: name, trials by state, when the first was begun."""
    told = []
    for name in optuna.get_all_study_names(storage):
        trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        states = {"trials": TrialState.COMPLETE, "running": TrialState.RUNNING, "waiting": TrialState.WAITING}
        counts = {word: sum(trial.state == state for trial in trials) for word, state in states.items()}
        started = min((trial.datetime_start for trial in trials if trial.datetime_start), default=None)
        told.append({"study": name, **counts, "begun": f"{started:%Y-%m-%d %H:%M}" if started else ""})
    return told
