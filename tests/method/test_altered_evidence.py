"""What a criterion sees of a member that is trained on altered data: those data."""

import torch

from lottery_ticket.engine.altered import half, seen
from lottery_ticket.engine.job import Member
from lottery_ticket.method.trajectory import evidence
from lottery_ticket.models.network import make_network


def gradient(settings, small, training, images=None):
    network = make_network(settings, small.input_shape, small.classes)
    start = network.draw(3, "init")
    member = Member("any", 3, network.dense_mask(), start, training=training)
    at = evidence(settings, network, small, 0, member, start, start)
    return at, at.gradients(start, images)["output.weight"]


def test_gradients_are_those_of_the_labels_that_it_is_trained_on(settings, small):
    usual, of_usual = gradient(settings, small, "usual")
    mixed, of_mixed = gradient(settings, small, "random-labels")
    assert sorted(mixed.labels.tolist()) == sorted(usual.labels.tolist())
    assert mixed.labels.tolist() != usual.labels.tolist()
    assert not torch.allclose(of_mixed, of_usual)


def test_gradients_are_those_of_the_half_that_it_is_trained_on(settings, small):
    those = half(len(small.train), 3)
    halved, of_halved = gradient(settings, small, "half-data")
    _, of_those = gradient(settings, small, "usual", those.tolist())
    assert halved.images == len(those) == -(-len(small.train) // 2)
    torch.testing.assert_close(of_halved, of_those, rtol=1e-4, atol=1e-6)
    assert seen(small.train, "usual", 3) is small.train
