"""Keeping the rounds of one experiment, and going on where an earlier process left it."""

import platform
from collections.abc import Sequence
from dataclasses import replace

from mlflow import MlflowClient

from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError
from lottery_ticket.method.arms import arm_named
from lottery_ticket.method.schedule import pruning_of
from lottery_ticket.method.trajectory import Checkpoint, Round, alive
from lottery_ticket.models.tensors import give
from lottery_ticket.randomness import forked
from lottery_ticket.record import Record
from lottery_ticket.runs.plan import Undertaking
from lottery_ticket.store import layout, reading
from lottery_ticket.store.layout import REWOUND
from lottery_ticket.store.tracking import Tracker
from lottery_ticket.tickets.compact import compact


def complete_rounds(settings: Settings, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """The records of the last round that every living trajectory has finished, and those of rounds after it."""
    last: list[Record] = []
    for r in range(settings.rounds):
        here = {(record.arm, record.seed): record for record in records if record.round == r}
        wanted = alive(settings, last, list(here.values()))
        if not wanted or not set(wanted) <= set(here):
            break
        last = [here[key] for key in wanted]
    done = last[0].round if last else -1
    return last, [record for record in records if record.round > done]


class Keeper:
    """Keeps the rounds of one experiment in MLflow, from where an earlier process left it.

    Args:
        plan: of the experiment.
        tracker: writes its runs.
        kept: the records that are there already.

    Attributes:
        after: what the method goes on after; None from the start.
    """

    def __init__(self, plan: Undertaking, tracker: Tracker, kept: Sequence[Record]) -> None:
        self._plan, self._tracker, self._compactable = plan, tracker, True
        last, self._partial = complete_rounds(plan.settings, kept)
        self._there = {(record.arm, record.seed, record.round) for record in self._partial}
        tracker.tag(plan.tags | {"lt.host": platform.node()})
        tracker.repeat_metrics(last, self._partial)
        self.done = last[0].round + 1 if last else 0
        self.after = _checkpoint(tracker.client, tracker, plan.settings, last) if last else None

    def keep(self, rounds: Sequence[Round]) -> list[Record]:
        """Keep a finished round; its records."""
        new = [
            self._made_compact(r) for r in rounds if (r.record.arm, r.record.seed, r.record.round) not in self._there
        ]
        old = [record for record in self._partial if record.round == rounds[0].record.round]
        self._tracker.log_rounds(new)
        return [*old, *(r.record for r in new)]

    def _made_compact(self, done: Round) -> Round:
        """A round that tells the multiply-adds of its network made small, where it can be."""
        cost, shape = done.record.cost, self._plan.network.input_shape
        frozen = arm_named(done.record.arm).training == "pruned-frozen"  # what is pruned computes, so nothing can go
        if cost is None or shape is None or done.record.diverged or frozen or not self._compactable:
            return done
        with forked():
            module = self._plan.network.build()
        give(module, done.weights)
        try:
            small = compact(module, done.mask, shape)
        except InputError:
            self._compactable = False
            return done
        return replace(done, record=done.record.model_copy(update={"cost": cost.made_compact(small.weights)}))


def _checkpoint(client: MlflowClient, tracker: Tracker, settings: Settings, last: Sequence[Record]) -> Checkpoint:
    """What the run goes on with after its last complete round."""
    masks, initial, rewound, trained, dense = {}, {}, {}, {}, {}
    one_shot = pruning_of(settings) == "one-shot"
    going_on = {seed for _, seed in alive(settings, last)} if last[0].round + 1 < settings.rounds else set()
    for seed in going_on if "winning" in settings.arms else ():
        initial[seed] = reading.read_weights(client, tracker.children["winning", seed], layout.INIT)
        if settings.rewind_iteration:
            rewound[seed] = reading.read_weights(client, tracker.children["winning", seed], REWOUND)
    for record in last:
        child = tracker.children[record.arm, record.seed]
        arm = arm_named(record.arm)
        if arm.own_mask and record.goes_on and record.round + 1 < settings.rounds:
            masks[record.arm, record.seed] = reading.read_mask(client, child, record.round + 1)
        if record.round + 1 == settings.rounds:
            continue
        if one_shot and arm.own_mask and record.goes_on:
            whole = reading.read_mask(client, child, 0)
            dense[record.arm, record.seed] = reading.read_trained(client, child, 0, whole)
        if arm.keep_start:
            under = reading.read_mask(client, child, record.round)
            of_this = dense.get((record.arm, record.seed))
            trained[record.arm, record.seed] = of_this or reading.read_trained(client, child, record.round, under)
    return Checkpoint(last, masks, initial, rewound, trained, dense)
