"""From how many trials on may one say which settings matter? Functions whose parts are known.

    python bench/importance.py

Printed for each function and number of trials: the true parts of two settings alone, together and unexplained
(noise), the mean of the estimates over repetitions, and by how much any one makes the part of a setting larger than it
is; beside it what fANOVA normalised to 1 says, as Optuna shows it.
"""

import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from scipy.stats import qmc

from lottery_ticket.study.importance import importance

FUNCTIONS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float, tuple[float, ...]]] = {
    # name: (function of the unit square, standard deviation of the noise, true parts)
    "one setting": (lambda x: np.tanh(4 * (x[:, 0] - 0.5)), 0.0, (1.0, 0.0, 0.0, 0.0)),
    "both": (lambda x: x[:, 0] + 0.5 * x[:, 1], 0.0, (0.8, 0.2, 0.0, 0.0)),
    "exclusive or": (lambda x: 1.0 * ((x[:, 0] > 0.5) ^ (x[:, 1] > 0.5)), 0.0, (0.0, 0.0, 1.0, 0.0)),
    "noise": (lambda x: 0 * x[:, 0], 1.0, (0.0, 0.0, 0.0, 1.0)),
}
REPETITIONS = 10


def main() -> None:
    """Print the table."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    print(f"{'function':>12}  trials  {'true parts':>20}  {'a, b, together, rest':>22}  too much  normalised")
    for name, (function, noise, true) in FUNCTIONS.items():
        for trials in (16, 24, 32, 48, 64):
            found, plain = [], []
            for repetition in range(REPETITIONS):
                points = qmc.Sobol(2, scramble=True, rng=repetition).random(trials)
                values = function(points) + noise * np.random.default_rng(repetition).normal(size=trials)
                study = studied(points, values)
                shares = importance(study)
                found.append([shares[key].part for key in ("a", "b", "interactions", "unexplained")])
                usual = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
                plain.append([usual["a"], usual["b"]])
            mean, more = np.mean(found, 0), (np.array(found) - true)[:, :2].max()
            told = "  ".join(f"{part:.2f}" for part in true), "  ".join(f"{part:.2f}" for part in mean)
            usual_told = "  ".join(f"{part:.2f}" for part in np.mean(plain, 0))
            print(f"{name:>12}  {trials:6}  {told[0]:>20}  {told[1]:>22}  {more:8.2f}  {usual_told}", flush=True)


def studied(points: np.ndarray, values: np.ndarray) -> optuna.Study:
    """A study of two settings, a and b, with these trials."""
    ranges = {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1)}
    study = optuna.create_study()
    for (a, b), value in zip(points, values, strict=True):
        params = {"a": float(a), "b": float(b)}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=float(value)))
    return study


if __name__ == "__main__":
    main()
