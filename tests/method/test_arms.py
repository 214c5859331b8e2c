"""Arms that somebody adds: a pulled ticket has the values its round started from, whatever these depend on."""

import re

import pytest
import torch

import lottery_ticket
from lottery_ticket import InputError, LotteryTicketError, Ticket
from lottery_ticket.masks import under
from lottery_ticket.method.arms import ARMS, Arm, Start, check_arms
from lottery_ticket.names import ARM
from lottery_ticket.runs.plan import make_plan
from lottery_ticket.runs.retrain import begin, retrain_settings
from lottery_ticket.store.find import find
from lottery_ticket.tickets.reference import RUN


def signs(at):
    """One size for all survivors of a tensor, with the sign of θₖ. Zhou et al. 2019, section 4.1."""
    return {n: w.sign() * w[at.winning[n]].abs().mean() if n in at.winning else w for n, w in at.rewound.items()}


def by_density(at):
    """θ₀, larger where fewer weights are left in the mask of this arm."""
    return {n: w / at.own[n].float().mean() if n in at.own else w for n, w in at.initial.items()}


STARTS = {
    "sign-only": Arm(lambda at: Start(at.winning, signs(at)), own_mask=False),
    "theta_0": Arm(lambda at: Start(at.winning, at.initial), own_mask=False),
    "own2": Arm(lambda at: Start(at.own, by_density(at)), own_mask=True),
    "a-seed7": Arm(lambda at: Start(at.winning, at.network.draw(at.seed, "other", at.round)), own_mask=False),
    "chance": Arm(
        lambda at: Start(at.own, {n: w + torch.rand(w.shape) for n, w in at.initial.items()}), True, keep_start=True
    ),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory, small_npz):
    """A late-rewound run of these arms: its result, and (arm, seed, round) → what the arm gave, and was given."""
    seen = {}

    def watched(name, arm):
        def start(at):
            seen[name, at.seed, at.round] = made = arm.start(at), at
            return made[0]

        return arm._replace(start=start)

    settings = lottery_ticket.load_preset(
        dataset=str(small_npz),
        validation_size=200,
        rounds=3,
        iterations=6,
        arms=("winning", *STARTS),
        seeds="0,3",
        rewind_iteration=3,
        jobs=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("arms"))
        for name, arm in STARTS.items():
            patch.setitem(ARMS, name, watched(name, arm))
        yield lottery_ticket.run(settings, tracking_uri="sqlite:///mlflow.db"), dict(seen)


def pull(found, where):
    return find(f"{found[0].run_id}:{where}", tracking_uri=found[0].client.tracking_uri)


@pytest.mark.parametrize("arm", STARTS)
def test_pulled_values_are_those_the_round_started_from(found, arm):
    for seed, r in ((0, 1), (0, 2), (3, 2)):
        ticket = pull(found, f"{r}:{arm}-seed{seed}")
        start, _ = found[1][arm, seed, r]
        assert ticket.origin.arm == arm
        assert all(torch.equal(kept, start.mask[name]) for name, kept in ticket.mask.items())
        assert all(torch.equal(value, under(start.mask, start.weights)[name]) for name, value in ticket.weights.items())


def test_every_moment_is_whole(found):
    for (arm, seed, r), (_, at) in found[1].items():
        assert all(kept.all() for kept in at.own.values()) == (r == 0)
        assert at.own.keys() == at.winning.keys() == at.network.kinds.keys()
        if not STARTS[arm].own_mask:
            assert at.own is at.winning
        assert torch.equal(at.initial["fc1.weight"], at.network.draw(seed, "init")["fc1.weight"])
        assert torch.equal(at.initial["fc1.weight"], at.rewound["fc1.weight"]) == (r == 0)


def test_an_arm_that_gives_another_mask_than_it_gave_is_not_believed(found, monkeypatch):
    monkeypatch.setitem(ARMS, "theta_0", Arm(ARMS["random-mask"].start, own_mask=False))
    with pytest.raises(LotteryTicketError, match="the arm theta_0 does not give the mask again"):
        pull(found, "1:theta_0-seed0")
    monkeypatch.delitem(ARMS, "theta_0")
    with pytest.raises(InputError, match=r": arm: 'theta_0' is unknown; allowed: winning, reinit"):
        pull(found, "1:theta_0-seed0")


def test_arms_of_ones_own_are_controls_of_a_ticket_that_is_trained_again(found):
    """A late-rewound ticket holds θₖ of its survivors alone: what needs no others is the same as in its run."""
    ticket = Ticket.load(f"runs:/{found[0].run_id}:1:winning-seed3", tracking_uri=found[0].client.tracking_uri)
    network = ticket.network()

    def controls(arms):
        settings = retrain_settings(ticket, {"arms": arms})
        return {member.arm: member for member in begin(ticket, settings, network, network)[3].members}

    for arm, member in controls("winning,theta_0,a-seed7").items():
        if arm != "winning":
            start, _ = found[1][arm, 3, 1]
            assert all(torch.equal(member.weights[n], value) for n, value in under(start.mask, start.weights).items())
    assert all(torch.equal(value, ticket.weights[n]) for n, value in controls("winning")["winning"].weights.items())
    with pytest.raises(InputError, match=r"--arms: 'random-mask' needs the values of all weights"):
        controls("winning,random-mask")


@pytest.mark.parametrize("name", ["Winning", "a/b", "a:b-c", "7up", "", "ä", "a" * 51])
def test_names_that_would_not_be_found_again_are_refused(settings, monkeypatch, name):
    monkeypatch.setitem(ARMS, name, ARMS["random-mask"])
    chosen = settings.model_copy(update={"arms": ("winning", name)})
    for check in (check_arms, make_plan):
        with pytest.raises(InputError, match=r"^--arms: .* is no name for an arm; allowed: a small letter"):
            check(chosen)


def test_names_of_arms_in_references():
    assert RUN.fullmatch("0" * 32 + ":3:x-seed2_y-seed11").groups() == ("0" * 32, "3", "x-seed2_y", "11")
    assert all(re.fullmatch(ARM, name) for name in (*ARMS, *STARTS))
