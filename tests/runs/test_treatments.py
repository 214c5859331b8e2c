"""Runs of our arms: gone on with to the same bits, their tickets trained again."""

import pytest

import lottery_ticket
from lottery_ticket import InputError, Ticket
from lottery_ticket.runs.listener import Listener


class Interrupted(Listener):
    """Ends the process, as Ctrl-C does, after round 1; knows the run."""

    run_id = ""

    def started(self, plan, run_id, done):
        self.run_id = run_id

    def rounds_finished(self, records):
        if records[0].round == 1:
            raise KeyboardInterrupt


def bits(result):
    return {
        (r.arm, r.seed, r.round): (r.test_loss, r.train_loss, r.survivors, r.correct, r.cost) for r in result.rounds
    }


ARMS = (
    *(
        "winning",
        "degree-preserving",
        "mask-inverted",
        "other-seed",
        "sign-only",
        "finetune",
        "dense-as-long",
        "freeze",
    ),
    *("freeze-towards-zero", "on-half-data", "mask-half-data"),
)


@pytest.mark.slow
@pytest.mark.parametrize("rewind", [0, 3])
def test_a_run_goes_on_to_the_same_bits(small_npz, tmp_path, monkeypatch, rewind):
    monkeypatch.chdir(tmp_path)
    settings = lottery_ticket.load_preset(
        dataset=str(small_npz),
        model="mlp:20",
        validation_size=200,
        rounds=3,
        iterations=9,
        seeds=2,
        arms=ARMS,
        rewind_iteration=rewind,
        schedule="step",
        milestones=(6,),
        engine="dense",
        jobs=1,
    )
    whole = lottery_ticket.run(settings, listener=Listener())
    cut = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        lottery_ticket.run(settings, listener=cut)
    assert bits(lottery_ticket.resume(cut.run_id, listener=Listener())) == bits(whole)


def test_tickets_of_treatments_and_treatments_of_tickets(found, store):
    """Ours of the winning ticket's mask are controls of `lt train`; what needs more than a ticket is refused."""
    ticket = Ticket.load(f"{found.run_id}:1:sign-only-seed0", tracking_uri=store)
    assert all(
        len(value[ticket.mask[name]].abs().unique()) == 1
        for name, value in ticket.weights.items()
        if name in ticket.mask
    )
    borrowing = ("winning", "sign-only", "shuffle")
    winning = Ticket.load(f"{found.run_id}:1:winning-seed0", tracking_uri=store)
    again = lottery_ticket.train_ticket(winning, arms=borrowing, tracking_uri=store, listener=Listener())
    told = {r.arm: r for r in again.rounds if r.round == 1}
    there = {r.arm: r for r in found.rounds if (r.seed, r.round) == (0, 1)}
    for arm in borrowing:
        assert told[arm].survivors == there[arm].survivors
        assert told[arm].test_loss == pytest.approx(there[arm].test_loss, rel=1e-4)
    for arm in ("other-seed", "mask-half-data", "freeze", "finetune"):
        with pytest.raises(
            InputError, match=r"allowed: winning \(the ticket\), and with it reinit, random-mask, degree"
        ):
            lottery_ticket.train_ticket(winning, arms=("winning", arm), tracking_uri=store)
    with pytest.raises(InputError, match="'shuffle-all' needs the values of all weights"):
        lottery_ticket.train_ticket(winning, arms="winning,shuffle-all", tracking_uri=store)
