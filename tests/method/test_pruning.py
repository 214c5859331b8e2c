"""Pruning against an oracle that sorts: exact counts, ties by position, nesting, scope."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery_ticket.masks import density, survivors
from lottery_ticket.method.pruning import prune

values = st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])  # few values: many ties
tensors = st.lists(st.lists(st.tuples(values, st.booleans()), min_size=1, max_size=40), min_size=1, max_size=4)
rates = st.floats(0.01, 0.99)


def magnitudes(weights):
    return {name: weight.abs() for name, weight in weights.items()}


def build(drawn):
    weights, mask = {}, {}
    for index, pairs in enumerate(drawn):
        kept = torch.tensor([alive for _, alive in pairs])
        kept[0] |= not kept.any()
        weights[f"t{index}"] = torch.tensor([value for value, _ in pairs])
        mask[f"t{index}"] = kept
    return weights, mask


def oracle_layer(weights, kept, rate):
    alive = [i for i in range(len(kept)) if kept[i]]
    count = min(round(rate * len(alive)), len(alive) - 1)
    doomed = sorted(alive, key=lambda i: (abs(weights[i]), i))[:count]
    return [bool(kept[i]) and i not in doomed for i in range(len(kept))]


def oracle_global(weights, mask, rate):
    alive = [(n, i) for n in mask for i in range(len(mask[n])) if mask[n][i]]
    protected = {max((p for p in alive if p[0] == n), key=lambda p: (abs(weights[p[0]][p[1]]), -p[1])) for n in mask}
    order = [p for p in alive if p not in protected]
    count = min(round(rate * len(alive)), len(order))
    names = list(mask)
    doomed = sorted(order, key=lambda p: (abs(weights[p[0]][p[1]]), names.index(p[0]), p[1]))[:count]
    return {n: [bool(mask[n][i]) and (n, i) not in doomed for i in range(len(mask[n]))] for n in mask}


@settings(max_examples=400, deadline=None)
@given(tensors, rates)
def test_layer_scope_equals_the_oracle(drawn, rate):
    weights, mask = build(drawn)
    new = prune(magnitudes(weights), mask, dict.fromkeys(mask, rate))
    for name in mask:
        assert new[name].tolist() == oracle_layer(weights[name].tolist(), mask[name].tolist(), rate)


@settings(max_examples=400, deadline=None)
@given(tensors, rates)
def test_global_scope_equals_the_oracle(drawn, rate):
    weights, mask = build(drawn)
    new = prune(magnitudes(weights), mask, dict.fromkeys(mask, rate), scope="global")
    expected = oracle_global(
        {n: w.tolist() for n, w in weights.items()}, {n: m.tolist() for n, m in mask.items()}, rate
    )
    assert {name: kept.tolist() for name, kept in new.items()} == expected


@pytest.mark.parametrize("scope", ["layer", "global"])
@settings(max_examples=100, deadline=None)
@given(drawn=tensors, rate=rates)
def test_masks_nest_keep_a_survivor_and_leave_the_input_alone(scope, drawn, rate):
    weights, mask = build(drawn)
    before = {name: kept.clone() for name, kept in mask.items()}
    for _ in range(5):
        new = prune(magnitudes(weights), mask, dict.fromkeys(mask, rate), scope)
        for name in mask:
            assert not (new[name] & ~mask[name]).any()
            assert new[name].any()
        mask = new
    first = build(drawn)[1]
    assert all(torch.equal(before[name], first[name]) for name in before)


def test_each_tensor_loses_its_own_rate():
    weights = {"a": torch.randn(20, 10), "b": torch.randn(100)}
    new = prune(
        magnitudes(weights), {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()}, {"a": 0.1, "b": 0.5}
    )
    assert survivors(new) == {"a": 180, "b": 50}
    assert density(new) == 230 / 300


def test_35_trainings_at_10_percent_leave_2_78_percent():
    mask = {"w": torch.ones(100_000, dtype=torch.bool)}
    weights = {"w": torch.from_numpy(np.random.default_rng(0).normal(size=100_000)).float()}
    for _ in range(34):
        mask = prune(magnitudes(weights), mask, {"w": 0.1})
    assert density(mask) == pytest.approx(0.9**34, rel=1e-3)
