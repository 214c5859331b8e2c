"""A sampler."""

import optuna

from lottery_ticket.study.definition import Study


def corners(study: Study) -> optuna.samplers.BaseSampler:
    """Random places, for as long as there is nothing better."""
    return optuna.samplers.RandomSampler(seed=study.sampler_seed)
