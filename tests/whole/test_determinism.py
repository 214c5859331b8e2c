"""Nothing random that does not come from (seed, purpose, round, epoch); and these tests would notice if it did."""

import random
from unittest import mock

import numpy as np
import pytest
import torch

from lottery_ticket import randomness
from lottery_ticket.config import load_preset
from lottery_ticket.data import prepared as data
from lottery_ticket.data.prepared import prepare
from lottery_ticket.data.sources import load_images
from lottery_ticket.engine import training
from lottery_ticket.method import arms
from lottery_ticket.method.trajectory import find_tickets
from lottery_ticket.models import network as models
from lottery_ticket.models.network import make_network
from tests.help import networks

USERS = (arms, data, models, training)
PURPOSES = ["validation split", "init", "reinit", "order", "random-mask", "dropout"]


def results(npz, seeds="0,1", **more):
    """(arm, seed) → per round: accuracy, mask and trained weights."""
    settings = load_preset(
        dataset=str(npz), validation_size=200, rounds=3, iterations=12, seeds=seeds, arms="winning,reinit,random-mask"
    )
    settings = settings.model_copy(update={"model": f"{networks.__name__}:with_dropout"} | more)
    images = prepare(load_images(settings.dataset), settings.validation_size, torch.device("cpu"))
    network = make_network(settings, images.input_shape, images.classes)
    found = {}
    for rounds in find_tickets(settings, network, images):
        for done in rounds:
            told = done.record.test_accuracy, done.record.validation_loss, done.mask, done.weights
            found.setdefault((done.record.arm, done.record.seed), []).append(told)
    return found


def same(one, other):
    def equal(a, b):
        return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    return one.keys() == other.keys() and all(
        mine[:2] == theirs[:2] and equal(mine[2], theirs[2]) and equal(mine[3], theirs[3])
        for key in one
        for mine, theirs in zip(one[key], other[key], strict=True)
    )


def disturb():
    """Use up, and seed otherwise, whatever could be drawn from without a seed of one's own."""
    for source in (torch.manual_seed, np.random.seed, random.seed):
        source(random.SystemRandom().randrange(2**31))
    torch.rand(7), np.random.rand(7), random.random()


@pytest.fixture(scope="module")
def first(small_npz):
    return results(small_npz)


def test_nothing_is_drawn_without_a_seed(small_npz, first):
    disturb()
    assert same(results(small_npz), first)


def test_the_order_of_members_does_not_matter(small_npz, first):
    assert same(results(small_npz, seeds="1,0", stack=1), results(small_npz, stack=1))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_canary(small_npz, first, purpose):
    """A seed that is not respected, for any purpose, is noticed."""
    real, hits = randomness.derive, []

    def careless(seed, what, *at):
        if what != purpose:
            return real(seed, what, *at)
        hits.append(what)
        return random.SystemRandom().randrange(2**62)

    with mock.patch.multiple(randomness, derive=careless):
        for module in USERS:
            if hasattr(module, "derive"):
                mock.patch.object(module, "derive", careless).start()
        try:
            found = results(small_npz)
        finally:
            mock.patch.stopall()
    assert hits
    assert not same(found, first)


def test_every_purpose_has_a_canary(small_npz):
    real, seen = randomness.derive, set()

    def noting(seed, what, *at):
        seen.add(what)
        return real(seed, what, *at)

    with (
        mock.patch.object(randomness, "derive", noting),
        mock.patch.object(models, "derive", noting),
        mock.patch.object(training, "derive", noting),
    ):
        results(small_npz)
    assert seen == set(PURPOSES)
