"""Arms that borrow a mask which another arm makes in the same round: trained after it, under what it ended with."""

from collections import defaultdict

import pytest
import torch

from lottery_ticket.engine.job import Progress, iterations_per_round
from lottery_ticket.engine.training import train
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import ARMS, Arm, Start, check_arms
from lottery_ticket.method.trajectory import Checkpoint, Trajectories, alive, find_tickets, train_round
from lottery_ticket.models.network import make_network
from lottery_ticket.runs.keeper import complete_rounds

BORROW = {"mask-gmp": "gmp", "reinit-gmp": "gmp", "mask-edge-popup": "edge-popup"}
ARMS_HERE = ("winning", "reinit", "gmp", "mask-gmp", "reinit-gmp", "mask-edge-popup", "edge-popup")


@pytest.fixture
def tiny(settings):
    told = {"model": "mlp:12", "batch_size": 25, "iterations": 16, "evaluate_every": 8, "stack": 8, "engine": "dense"}
    return settings.model_copy(
        update=told | {"rounds": 3, "prune_rate": 0.5, "mask_every": 4, "arms": ARMS_HERE, "seeds": (0, 1)}
    )


@pytest.fixture
def network(tiny, small):
    return make_network(tiny, small.input_shape, small.classes)


def by_key(rounds):
    return {(done.record.arm, done.record.seed): done for done in rounds}


def diverging(arm, at):
    """Trains as the engine, but says that one arm diverged in a round."""

    def trained(network, members, data, settings, round, *more):
        results = train(network, members, data, settings, round, *more)
        for member, result in zip(members, results, strict=True):
            if (member.arm, round) == (arm, at):
                object.__setattr__(result, "diverged", True)
        return results

    return trained


def test_under_the_mask_that_the_lender_ended_with(tiny, network, small):
    """Values θ₀ or new ones, trained as any network under that mask, whose making is what it cost to find."""
    rounds = [by_key(done) for done in find_tickets(tiny, network, small)]
    assert [len(done) for done in rounds] == [14, 14, 14]
    for r, done in enumerate(rounds):
        assert list(done) == [(arm, seed) for arm in ARMS_HERE for seed in (0, 1)]
        for (arm, seed), mine in done.items():
            if arm not in BORROW:
                continue
            lender = done[BORROW[arm], seed]
            expected = lender.mask if r else network.dense_mask()
            assert all(torch.equal(kept, expected[name]) for name, kept in mine.mask.items())
            values = network.draw(seed, "reinit", r) if arm == "reinit-gmp" else network.draw(seed, "init")
            assert all(torch.equal(value, values[name]) for name, value in mine.start.items())
            assert mine.record.cost.to_find == (lender.record.cost.computed if r else 0)
            assert mine.record.iterations == 16
    for seed in (0, 1):  # round 0 is the dense network's
        for arm in ("mask-gmp", "mask-edge-popup"):
            one, other = (rounds[0][each, seed].weights["fc1.weight"] for each in (arm, "winning"))
            torch.testing.assert_close(one, other)


def test_progress_is_that_of_the_whole_round(tiny, network, small):
    seen = defaultdict(list)

    def watch(progress: Progress):
        seen[progress.round].append((progress.done, progress.total))

    list(find_tickets(tiny, network, small, watch=watch))
    each = iterations_per_round(tiny, len(small.train))
    wholes = {0: 12 * each, 1: 14 * each, 2: 14 * each}  # the untrained edge-popup of round 0 takes nothing
    for r, whole in wholes.items():
        assert {total for _, total in seen[r]} == {whole}
        done = [iterations for iterations, _ in seen[r]]
        assert done == sorted(done)
        assert done[-1] == whole


def test_going_on_after_a_round_gives_the_same_bits(tiny, network, small):
    chosen = tiny.model_copy(update={"arms": ("winning", "gmp", "reinit-gmp")})
    whole = [by_key(done) for done in find_tickets(chosen, network, small)]
    masks = {key: done.next_mask for key, done in whole[1].items() if done.next_mask}
    initial = {seed: whole[0]["winning", seed].start for seed in (0, 1)}
    after = Checkpoint([done.record for done in whole[1].values()], masks, initial, {})
    (rest,) = find_tickets(chosen, network, small, after)
    for key, done in by_key(rest).items():
        assert all(torch.equal(value, whole[2][key].weights[name]) for name, value in done.weights.items())
        assert done.record.cost == whole[2][key].record.cost


def test_who_borrows_what_could_not_be_made_ends(tiny, network, small):
    """And the others go on; what is kept of such a round is a whole round."""
    rounds = [by_key(done) for done in find_tickets(tiny, network, small, train=diverging("gmp", 1))]
    for r, gone in ((0, ()), (1, ("mask-gmp", "reinit-gmp")), (2, ("mask-gmp", "reinit-gmp"))):
        assert {arm for arm, _ in rounds[r]} == set(ARMS_HERE) - set(gone)
    records = [done.record for each in rounds[:2] for done in each.values()]
    last, more = complete_rounds(tiny, records)
    assert {(record.arm, record.round) for record in last} == {(arm, 1) for arm, _ in rounds[1]}
    assert more == []
    assert alive(tiny, last) == list(rounds[2])
    early = [record for record in records if (record.arm, record.round) != ("mask-edge-popup", 1)]
    last, more = complete_rounds(tiny, early)
    assert {record.round for record in last} == {0}
    assert {record.round for record in more} == {1}
    early = [record for record in records if (record.arm, record.round) != ("gmp", 1)]  # whose end nobody knows
    assert {record.round for record in complete_rounds(tiny, early)[0]} == {0}


def test_experiments_side_by_side_are_as_each_alone(tiny, network, small):
    """In one call of who trains a turn, each with its own learning rate, in the end and on the way."""
    several = [
        tiny.model_copy(update={"arms": ("winning", "gmp", "mask-gmp"), "lr": 3e-3}),
        tiny.model_copy(update={"arms": ("winning", "reinit")}),
        tiny.model_copy(update={"arms": ("edge-popup", "mask-edge-popup"), "prune_rate": 0.3}),
    ]
    calls = []

    def counted(network, members, *more):
        calls.append([member.arm for member in members])
        return train(network, members, *more)

    states = [Trajectories(each, network, small) for each in several]
    together = [train_round(states, network, small, several[1], None, counted) for _ in range(3)]
    assert [len(call) for call in calls] == [14, 10, 4, 10, 4]
    for place, own in enumerate(several):
        for r, rounds in enumerate(find_tickets(own, network, small)):
            for mine, alone in zip(together[r][place], rounds, strict=True):
                assert (mine.record.arm, mine.record.seed) == (alone.record.arm, alone.record.seed)
                for name, value in alone.weights.items():
                    torch.testing.assert_close(mine.weights[name], value, rtol=1e-2, atol=1e-4)


def test_a_borrower_may_lend(tiny, network, small, monkeypatch):
    """A stranger's arm that grows elsewhere from gradual pruning's mask, and one that borrows what that ends with."""
    grown = Arm(
        lambda at: Start(at.winning, at.initial),
        own_mask=False,
        training="set",
        lender=lambda seed, seeds: ("gmp", seed),
    )
    static = Arm(lambda at: Start(at.winning, at.initial), own_mask=False, lender=lambda seed, seeds: ("grown", seed))
    monkeypatch.setitem(ARMS, "static", static)
    monkeypatch.setitem(ARMS, "grown", grown)
    chosen = tiny.model_copy(update={"arms": ("static", "grown", "winning", "gmp"), "seeds": (0,)})
    check_arms(chosen)
    rounds = [by_key(done) for done in find_tickets(chosen, network, small)]
    for done in rounds[1:]:
        static, grown, gradual = (done[arm, 0] for arm in ("static", "grown", "gmp"))
        assert all(torch.equal(kept, grown.mask[name]) for name, kept in static.mask.items())
        assert not torch.equal(grown.mask["fc1.weight"], gradual.mask["fc1.weight"])
        assert grown.record.survivors == gradual.record.survivors
        assert static.record.cost.to_find > grown.record.cost.to_find > 0


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (("winning", "mask-gmp"), "'mask-gmp' takes its masks from gmp; allowed: gmp beside it"),
        (("mask-edge-popup",), "'mask-edge-popup' takes its masks from edge-popup; allowed: edge-popup beside it"),
        (("winning", "reinit", "of-reinit"), "'of-reinit' takes its masks from reinit, which finds none; allowed: one"),
    ],
)
def test_lenders_must_be_there(tiny, monkeypatch, arms, said):
    of_reinit = Arm(lambda at: Start(at.winning, at.initial), False, lender=lambda seed, seeds: ("reinit", seed))
    monkeypatch.setitem(ARMS, "of-reinit", of_reinit)
    with pytest.raises(InputError) as refused:
        check_arms(tiny.model_copy(update={"arms": arms, "mask_every": 100}))
    assert said in str(refused.value)
