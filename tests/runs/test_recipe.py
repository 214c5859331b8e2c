"""A run with the recipe of the CIFAR papers, in small: interrupted, gone on with, and its ticket trained again."""

import pytest

import lottery_ticket
from lottery_ticket import Ticket
from lottery_ticket.runs.listener import Listener


class Interrupted(Listener):
    """Ends the process, as Ctrl-C does, after round 0; knows the run."""

    run_id = ""

    def started(self, plan, run_id, done):
        self.run_id = run_id

    def rounds_finished(self, records):
        raise KeyboardInterrupt


def figures(result):
    return [(r.arm, r.round, r.begins_at, r.test_loss, r.density, r.curve) for r in result.rounds]


@pytest.mark.slow
def test_it_goes_on_to_the_same_bits_and_hands_on_all_that_it_was_trained_by(small_npz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = lottery_ticket.load_preset(
        "openlth-resnet20",
        dataset=str(small_npz),
        width=0.125,
        rounds=3,
        seeds=1,
        arms="winning,reinit,lr-rewinding",
        epochs="8it",
        rewind_iteration="0.2ep",
        weight_decay_on="weights",
        label_smoothing=0.1,
        normalise="unit",
        keep_dense="output.*",
        device="cpu",
    )
    whole = lottery_ticket.run(settings, listener=Listener())
    cut = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        lottery_ticket.run(settings, listener=cut)
    assert figures(lottery_ticket.resume(cut.run_id, listener=Listener())) == figures(whole)
    assert [r.begins_at for r in whole.rounds] == [0, 0, 0, 2, 0, 2, 2, 0, 2]

    ticket = Ticket.load(f"runs:/{whole.run_id}:2")
    assert (ticket.settings.iterations, ticket.settings.rewind_iteration, ticket.settings.milestones) == (8, 2, (4, 6))
    assert (ticket.settings.width, ticket.data.std) == (0.125, (255.0,))
    assert "output.weight" not in ticket.mask
    again = lottery_ticket.train_ticket(ticket, arms="winning", listener=Listener())
    found = next(r for r in whole.rounds if (r.arm, r.round) == ("winning", 2))
    assert next(r for r in again.rounds if r.round == 2).test_loss == pytest.approx(found.test_loss, rel=1e-4)
