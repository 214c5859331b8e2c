"""The method: what each arm starts from, nesting, one-shot, late rewinding, divergence, going on after a round."""

import pytest
import torch

from lottery_ticket.masks import survivors
from lottery_ticket.method.pruning import prune
from lottery_ticket.method.trajectory import Checkpoint, find_tickets
from lottery_ticket.models.network import make_network


def network_of(settings, data):
    return make_network(settings, data.input_shape, data.classes)


def by_arm(rounds):
    return {(done.record.arm, done.record.seed): done for done in rounds}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def four_arms(small_npz, small):
    from lottery_ticket.config import load_preset

    settings = load_preset(
        dataset=str(small_npz),
        arms="winning,reinit,random-mask,reinit-own",
        seeds=2,
        rounds=4,
        iterations=25,
        prune_rate=0.3,
        prune_rate_output=0.1,
    )
    network = network_of(settings, small)
    return settings, network, [by_arm(rounds) for rounds in find_tickets(settings, network, small)]


def test_winning_rewinds_to_theta_0_bit_for_bit_and_prunes_its_own_weights(four_arms):
    settings, network, rounds = four_arms
    for seed in (0, 1):
        theta = network.draw(seed, "init")
        for r, now in enumerate(rounds):
            done = now["winning", seed]
            assert equal(done.start, theta)
            for name, kept in done.mask.items():
                assert (done.weights[name][~kept] == 0).all()
            if r:
                before = rounds[r - 1]["winning", seed]
                scores = {name: before.weights[name].abs() for name in before.mask}
                assert equal(done.mask, prune(scores, before.mask, network.rates(settings)))
    assert not equal(rounds[1]["winning", 0].mask, rounds[1]["winning", 1].mask)


def test_reinit_has_the_winning_mask_and_new_weights_each_round(four_arms):
    _, network, rounds = four_arms
    starts = [now["reinit", 0].start["fc1.weight"] for now in rounds] + [network.draw(0, "init")["fc1.weight"]]
    for r, now in enumerate(rounds):
        assert equal(now["reinit", 0].mask, now["winning", 0].mask)
        assert all(not torch.equal(starts[r], other) for s, other in enumerate(starts) if s != r)


def test_random_mask_has_theta_0_and_as_many_survivors_per_tensor(four_arms):
    _, network, rounds = four_arms
    for r, now in enumerate(rounds):
        done, trunk = now["random-mask", 0], now["winning", 0]
        assert equal(done.start, network.draw(0, "init"))
        assert survivors(done.mask) == survivors(trunk.mask)
        if r:
            overlap = (done.mask["fc1.weight"] & trunk.mask["fc1.weight"]).sum() / trunk.mask["fc1.weight"].sum()
            assert overlap == pytest.approx(trunk.record.densities["fc1.weight"], abs=0.01)  # chance


def test_reinit_own_finds_its_own_masks(four_arms):
    settings, network, rounds = four_arms
    for r, now in enumerate(rounds):
        done = now["reinit-own", 0]
        assert equal(done.start, now["reinit", 0].start)
        if r:
            before = rounds[r - 1]["reinit-own", 0]
            scores = {name: before.weights[name].abs() for name in before.mask}
            assert equal(done.mask, prune(scores, before.mask, network.rates(settings)))
            assert not equal(done.mask, now["winning", 0].mask)


def test_densities_follow_the_rates(four_arms):
    _, _, rounds = four_arms
    record = rounds[3]["winning", 0].record
    assert record.densities["fc1.weight"] == pytest.approx(0.7**3, abs=1e-3)
    assert record.densities["output.weight"] == pytest.approx(0.9**3, abs=1e-3)
    total = sum(record.survivors.values())
    assert record.density == total / 266_200
    assert record.sparsity == 1 - record.density


def test_one_shot_is_one_round_of_pruning(settings, small):
    settings = settings.model_copy(update={"rounds": 2, "prune_rate": 0.9, "arms": ("winning",)})
    rounds = list(find_tickets(settings, network_of(settings, small), small))
    assert len(rounds) == 2
    assert rounds[1][0].record.density == pytest.approx(0.1, abs=1e-3)


def test_global_scope_ranks_all_tensors_together(settings, small):
    settings = settings.model_copy(update={"scope": "global", "prune_rate": 0.5, "arms": ("winning",)})
    *_, (last,) = find_tickets(settings, network_of(settings, small), small)
    assert last.record.density == pytest.approx(0.5**3, abs=1e-4)
    assert last.record.densities["output.weight"] > 2 * last.record.densities["fc1.weight"]


def test_late_rewinding_starts_from_theta_k(settings, small):
    settings = settings.model_copy(update={"rewind_iteration": 12, "arms": ("winning", "random-mask")})
    network = network_of(settings, small)
    rounds = [by_arm(done) for done in find_tickets(settings, network, small)]
    theta_k = rounds[0]["winning", 0].rewound
    short = settings.model_copy(update={"iterations": 12, "rounds": 1})
    (first,) = find_tickets(short, network, small)
    assert equal(theta_k, by_arm(first)["winning", 0].weights)
    assert equal(rounds[0]["winning", 0].start, network.draw(0, "init"))
    for now in rounds[1:]:
        assert equal(now["winning", 0].start, theta_k)
        assert equal(now["random-mask", 0].start, theta_k)


def test_going_on_after_a_round_gives_the_same_bits(settings, small):
    settings = settings.model_copy(update={"arms": ("winning", "reinit", "reinit-own"), "rewind_iteration": 3})
    network = network_of(settings, small)
    whole = list(find_tickets(settings, network, small))
    after = Checkpoint(
        records=[done.record for done in whole[1]],
        masks={(done.record.arm, 0): done.next_mask for done in whole[1] if done.next_mask},
        initial={0: network.draw(0, "init")},
        rewound={0: whole[0][0].rewound},
    )
    rest = list(find_tickets(settings, network, small, after))
    assert [len(done) for done in rest] == [3, 3]
    for a, b in zip(whole[2:], rest, strict=True):
        for one, again in zip(a, b, strict=True):
            assert equal(one.weights, again.weights)
            assert equal(one.mask, again.mask)
            assert one.record.curve == again.record.curve


def test_going_on_draws_no_start_values_again(settings, small):
    """Of a factory whose draws nobody can repeat, say: what the run began with stands in the checkpoint."""
    settings = settings.model_copy(update={"arms": ("winning", "random-mask"), "rounds": 2})
    network = network_of(settings, small)
    first = by_arm(next(find_tickets(settings, network, small)))
    began_with = network.draw(99, "init")
    after = Checkpoint([done.record for done in first.values()], {("winning", 0): first["winning", 0].next_mask},
                       {0: began_with}, {})  # fmt: skip
    (rest,) = find_tickets(settings, network, small, after)
    assert all(equal(done.start, began_with) for done in rest)


def test_a_diverged_trajectory_ends_and_the_others_go_on(settings, small, monkeypatch):
    settings = settings.model_copy(update={"seeds": (0, 1), "arms": ("winning", "reinit", "reinit-own")})
    network = network_of(settings, small)
    healthy_draw = type(network).draw

    def draw(self, seed, purpose, *at):
        weights = healthy_draw(self, seed, purpose, *at)
        if (seed, purpose) == (1, "init"):
            weights["fc2.weight"][0, 0] = torch.nan
        return weights

    monkeypatch.setattr(type(network), "draw", draw)
    rounds = [by_arm(done) for done in find_tickets(settings, network, small)]
    assert {key for key, done in rounds[0].items() if done.record.diverged} == {("winning", 1)}
    for now in rounds[1:]:
        assert set(now) == {("winning", 0), ("reinit", 0), ("reinit-own", 0), ("reinit-own", 1)}
        assert not any(done.record.diverged for done in now.values())


def test_a_learning_rate_beyond_reason_diverges_and_is_said_so(settings, small):
    settings = settings.model_copy(update={"optimizer": "sgd", "lr": 1e12})
    rounds = list(find_tickets(settings, network_of(settings, small), small))
    assert len(rounds) == 1
    assert all(done.record.diverged for done in rounds[0])
    assert rounds[0][0].record.test_loss is None
    assert rounds[0][0].record.model_dump_json()
