"""When and how much: exact numbers of survivors against oracles, by rate, density and shares of tensors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from lottery_ticket.config import load_preset, load_settings, settings_then
from lottery_ticket.errors import InputError
from lottery_ticket.masks import survivors
from lottery_ticket.method.densities import erk, smart_ratio
from lottery_ticket.method.pruning import keep, prune
from lottery_ticket.method.schedule import check_schedule, check_shares, left_after
from lottery_ticket.method.trajectory import Checkpoint, find_tickets
from lottery_ticket.models.network import make_network

dimensions = st.lists(st.integers(1, 30), min_size=2, max_size=4)
shapes = st.lists(dimensions, min_size=1, max_size=6).map(lambda drawn: {f"t{k}": s for k, s in enumerate(drawn)})


@tried(max_examples=300, deadline=None)
@given(shapes, st.floats(0.001, 0.999))
def test_erk_against_its_definition(given_shapes, density):
    found = erk(given_shapes, density)
    sizes = {name: math.prod(shape) for name, shape in given_shapes.items()}
    assert sum(found[n] * sizes[n] for n in sizes) == pytest.approx(density * sum(sizes.values()))

    def at(scale):  # every tensor in proportion, none beyond 1
        return {name: min(1, scale * sum(shape) / sizes[name]) for name, shape in given_shapes.items()}

    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        too_much = sum(at(middle)[n] * sizes[n] for n in sizes) > density * sum(sizes.values())
        low, high = (low, middle) if too_much else (middle, high)
    assert found == pytest.approx(at(low), rel=1e-6)


@tried(max_examples=200, deadline=None)
@given(shapes, st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_shares_shrink_with_the_density_so_that_masks_nest(given_shapes, one, other):
    for of in (erk, smart_ratio):
        try:
            less, more = (of(given_shapes, density) for density in sorted((one, other)))
        except ValueError:
            continue
        assert all(less[name] <= more[name] + 1e-12 for name in given_shapes)
        sizes = {name: math.prod(shape) for name, shape in given_shapes.items()}
        assert sum(more[n] * sizes[n] for n in sizes) == pytest.approx(max(one, other) * sum(sizes.values()))
        assert all(0 <= share <= 1 for share in more.values())


def test_smart_ratio_by_hand():
    three = {"a": (1, 10, 1, 1), "b": (10, 10, 1, 1), "c": (10, 10, 1, 1), "output": (10, 10)}
    # of 310 weights 62: 30 of the linear layer; a : b : c = 12 : 6 : 2, so 120 s + 600 s + 200 s = 32
    found = smart_ratio(three, 0.2)
    assert found == pytest.approx({"a": 12 * 32 / 920, "b": 6 * 32 / 920, "c": 2 * 32 / 920, "output": 0.3})
    # of 217 weights 187 for convolutions: a would have 24.39, of which 14.39 go to b: 121.96 + 14.39, 36.35 go to c
    assert smart_ratio(three, 0.7) == pytest.approx({"a": 1, "b": 1, "c": 0.77, "output": 0.3})
    assert smart_ratio(three, 0.9) == pytest.approx({"a": 1, "b": 1, "c": 1, "output": 0.69})  # what is over
    with pytest.raises(ValueError, match="keeps 30% of linear layers"):
        smart_ratio(three, 0.05)
    with pytest.raises(ValueError, match="needs convolutions"):
        smart_ratio({"fc": (3, 4)}, 0.5)


@tried(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=12), min_size=1, max_size=3), st.data())
def test_exactly_so_many_are_kept(drawn, data):
    scores = {f"t{k}": torch.tensor(values) for k, values in enumerate(drawn)}
    mask = {name: torch.ones_like(value, dtype=torch.bool) for name, value in scores.items()}
    each = {name: data.draw(st.integers(0, len(value))) for name, value in scores.items()}
    assert survivors(keep(scores, mask, each)) == {name: max(1, count) for name, count in each.items()}
    total = data.draw(st.integers(0, sum(map(len, drawn))))
    left = keep(scores, mask, total)
    assert sum(survivors(left).values()) == max(total, len(mask))
    lost = [float(scores[n][i]) for n in scores for i in range(len(scores[n])) if not left[n][i]]
    tops = {n: int(scores[n].argmax()) for n in scores}
    held = [float(scores[n][i]) for n in scores for i in range(len(scores[n])) if left[n][i] and i != tops[n]]
    assert not lost or not held or max(lost) <= min(held)


def a_network(model="lenet5", **how):
    settings = load_preset(model=model, **how)
    return settings, make_network(settings, (1, 8, 8), 3)


@pytest.mark.parametrize("scope", ["layer", "global", "erk", "smart-ratio"])
@pytest.mark.parametrize("pruning", ["iterative", "one-shot", "init"])
def test_the_last_round_has_the_density_and_the_rounds_between_a_constant_rate(scope, pruning):
    settings, network = a_network(density=0.4, rounds=5, scope=scope, pruning=pruning)
    dense, sizes = network.dense_mask(), survivors(network.dense_mask())
    noise = {name: torch.rand(kept.shape) for name, kept in dense.items()}
    mask, total = dense, sum(sizes.values())
    for r in range(1, 5):
        left = left_after(settings, network, mask if pruning == "iterative" else dense, r)
        mask = keep(noise, mask, left)
        density = 0.4 ** (r / 4)
        if scope == "global":
            assert sum(survivors(mask).values()) == round(density * total)
            continue
        shares = dict.fromkeys(sizes, density)
        if scope != "layer":
            shares = {"erk": erk, "smart-ratio": smart_ratio}[scope]({n: k.shape for n, k in dense.items()}, density)
        assert survivors(mask) == {name: max(1, round(shares[name] * sizes[name])) for name in sizes}
    assert settings.prune_rate == pytest.approx(1 - 0.4**0.25)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_from_the_dense_network_the_same_numbers_survive_as_round_by_round(scope):
    how = {"scope": scope, "rounds": 9, "prune_rate": 0.37}
    if scope == "layer":
        how |= {"prune_rate_conv": 0.11, "prune_rate_output": 0.53}
    settings, network = a_network(**how)
    mask = network.dense_mask()
    for r in range(1, 9):
        mask = prune({n: torch.rand(k.shape) for n, k in mask.items()}, mask, network.rates(settings), scope)
        at_once = left_after(settings.model_copy(update={"pruning": "one-shot"}), network, network.dense_mask(), r)
        now = survivors(mask)
        assert at_once == (now if scope == "layer" else sum(now.values()))


def test_one_shot_judges_the_dense_network_and_goes_on_after_a_round(settings, small):
    arms = ("winning", "reinit", "reinit-own", "lr-rewinding")
    chosen = settings.model_copy(update={"model": "mlp:9", "pruning": "one-shot", "arms": arms, "iterations": 6})
    network = make_network(chosen, small.input_shape, small.classes)
    rounds = [{done.record.arm: done for done in each} for each in find_tickets(chosen, network, small)]
    for arm in ("winning", "reinit-own", "lr-rewinding"):
        trained = rounds[0][arm].weights
        scores = {name: trained[name].abs() for name in network.dense_mask()}
        for r in range(1, 4):
            left = {name: round(share) for name, share in survivors(rounds[r][arm].mask).items()}
            at_once = keep(scores, network.dense_mask(), left)
            assert all(torch.equal(at_once[name], rounds[r][arm].mask[name]) for name in at_once)
        assert rounds[3][arm].record.densities["fc1.weight"] == pytest.approx(0.8**3, abs=1e-3)
    for r in range(1, 4):  # of the dense network, as Renda et al. have it, not of the round before
        start = rounds[r]["lr-rewinding"].start
        assert all(torch.equal(start[name], rounds[0]["lr-rewinding"].weights[name]) for name in start)
    whole = rounds[0]["winning"].record.cost.computed
    assert [rounds[r]["winning"].record.cost.to_find for r in range(4)] == [0, whole, whole, whole]

    own = [arm for arm in arms if arm != "reinit"]
    after = Checkpoint(
        [rounds[1][arm].record for arm in arms],
        {(arm, 0): rounds[1][arm].next_mask for arm in own},
        {0: network.draw(0, "init")},
        {},
        {("lr-rewinding", 0): rounds[0]["lr-rewinding"].weights},
        {(arm, 0): rounds[0][arm].weights for arm in own},
    )
    again = [{done.record.arm: done for done in each} for each in find_tickets(chosen, network, small, after)]
    for there, here in zip(rounds[2:], again, strict=True):
        for arm in arms:
            assert all(torch.equal(there[arm].weights[n], here[arm].weights[n]) for n in there[arm].weights)
            assert there[arm].record.cost == here[arm].record.cost


def test_at_initialisation_masks_are_of_theta_0_or_where_it_is_rewound_to(settings, small):
    how = {"model": "mlp:9", "criterion": "snip", "rounds": 3, "iterations": 6, "density": 0.1}
    how |= {"arms": ("winning", "reinit"), "engine": "dense"}
    masks = []
    for k in (0, 3):
        chosen = settings.model_copy(update=how | {"rewind_iteration": k})
        network = make_network(chosen, small.input_shape, small.classes)
        rounds = [{done.record.arm: done for done in each} for each in find_tickets(chosen, network, small)]
        assert survivors(rounds[2]["winning"].mask) == {"fc1.weight": 706, "output.weight": 9}
        assert (rounds[2]["winning"].mask["fc1.weight"] & ~rounds[1]["winning"].mask["fc1.weight"]).sum() == 0
        assert torch.equal(rounds[2]["reinit"].mask["fc1.weight"], rounds[2]["winning"].mask["fc1.weight"])
        cost = [each["winning"].record.cost for each in rounds]
        scoring = 100 * (2 * 784 * 9 + 3 * 90)
        assert [each.to_find for each in cost] == [0, scoring, scoring]
        assert cost[0].computed == scoring + cost[0].round.dense
        masks.append(rounds[2]["winning"].mask["fc1.weight"])
    assert not torch.equal(*masks)  # scored at θ₃


WRONG = [
    (
        {"criterion": "movement", "pruning": "init"},
        "--criterion: 'movement' compares trained weights with",
    ),
    ({"criterion": "snip", "rounds": 1}, "--rounds: 1 prunes nothing in the dense round alone"),
    ({"criterion": "snip", "arms": "winning,lr-rewinding"}, "--arms: 'lr-rewinding' goes on with trained weights"),
]


@pytest.mark.parametrize(("how", "said"), WRONG)
def test_what_makes_no_sense_together(how, said):
    with pytest.raises(InputError) as caught:
        check_schedule(load_preset(**how))
    assert str(caught.value).startswith(said)


UNFIT = [
    ({"density": 0.1, "prune_rate": 0.3}, "--density: 0.1 cannot stand beside --prune-rate 0.3"),
    ({"density": 0.1, "tensor_densities": "*=0.5"}, "--density: 0.1 cannot stand beside --tensor-densities"),
    ({"arms": ","}, "--arms: ',' has an empty name"),
    ({"density": 0.1, "rounds": 1}, "--density: 0.1 is that of the last round, which is the dense one"),
    ({"density": 0.1, "prune_rate_conv": 0.3}, "--prune-rate-conv: 0.3 has no meaning with a density"),
    ({"scope": "erk", "prune_rate_output": 0.3}, "--prune-rate-output: 0.3 has no meaning with scope erk"),
    ({"tensor_densities": "fc1.weight=0.1", "prune_rate": 0.3}, "--tensor-densities: 'fc1.weight=0.1' cannot stand"),
    ({"tensor_densities": "*=0.1", "scope": "global"}, "--scope: 'global' has no meaning with densities of tensors"),
    ({"tensor_densities": "*=0.1", "prune_rate_conv": 0.3}, "--prune-rate-conv: 0.3 has no meaning with densities"),
    ({"tensor_densities": "fc1=1.2"}, "--tensor-densities: 'fc1=1.2' is not allowed; allowed: TENSOR=DENSITY as"),
    ({"tensor_densities": "fc1=0.2,a-ticket"}, "--tensor-densities: 'fc1=0.2,a-ticket' is not allowed; allowed: TENS"),
    ({"prune_steps": 0}, "--prune-steps: 0 is not allowed; allowed: auto or a whole number ≥ 1 and ≤ 10000"),
]


@pytest.mark.parametrize(("how", "said"), UNFIT)
def test_settings_that_cannot_stand_together(how, said):
    with pytest.raises(InputError) as caught:
        load_preset(**how)
    assert str(caught.value).startswith(said)


def test_densities_of_tensors_by_pattern():
    told = "conv*=0.5,fc1.weight=0.02,*=1"
    settings, network = a_network(rounds=4, tensor_densities=told)
    sizes, mask = survivors(network.dense_mask()), network.dense_mask()
    for r in range(1, 4):
        mask = keep({n: torch.rand(k.shape) for n, k in mask.items()}, mask, left_after(settings, network, mask, r))
        shares = {"conv1.weight": 0.5, "conv2.weight": 0.5, "fc1.weight": 0.02, "fc2.weight": 1, "output.weight": 1}
        assert survivors(mask) == {name: round(share ** (r / 3) * sizes[name]) for name, share in shares.items()}
    for wrong, said in (("conv*=0.5", "say nothing of fc1.weight, "), ("fc9=0.1,*=0.5", "'fc9=0.1' names no prunable")):
        with pytest.raises(InputError, match=said):
            check_shares(*a_network(tensor_densities=wrong))


def test_a_smart_ratio_that_cannot_be_had_is_told_before_training():
    with pytest.raises(InputError, match=r"--scope: 'smart-ratio' needs convolutions: 80 % of the weights, left in"):
        check_shares(*a_network(model="mlp:5", scope="smart-ratio"))
    with pytest.raises(InputError, match=r"'smart-ratio' keeps 30% of linear layers, more than that in all: 26.2 % of"):
        check_shares(*a_network(scope="smart-ratio"))


def test_a_rate_over_a_density_of_a_file_and_the_other_way_round(tmp_path):
    (tmp_path / "my.toml").write_text("density = 0.05\nrounds = 3\n")
    settings, _ = load_settings(None, tmp_path / "my.toml", {})
    assert (settings.density, settings.prune_rate) == (0.05, 1 - 0.05**0.5)
    settings, _ = load_settings(None, tmp_path / "my.toml", {"prune_rate": "0.3"})
    assert (settings.density, settings.prune_rate) == (None, 0.3)
    (tmp_path / "my.toml").write_text("prune_rate = 0.3\n")
    settings, _ = load_settings(None, tmp_path / "my.toml", {"density": "0.05", "rounds": "3"})
    assert (settings.density, settings.prune_rate) == (0.05, 1 - 0.05**0.5)


def test_what_was_stored_before_there_were_schedules():
    told = {"criterion": "their-snip", "rewind_steps": "all", "engine": "dense", "prunable": "layers"}
    assert settings_then(told)["pruning"] == "iterative"
    assert settings_then(told)["prune_steps"] == 1
    assert "pruning" not in settings_then(told | {"criterion": "magnitude"})
    assert "prune_steps" not in settings_then(told | {"pruning": "auto"})
