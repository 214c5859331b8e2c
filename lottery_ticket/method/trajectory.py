"""The method: train, prune, rewind, train again (Frankle & Carbin 2019), for every arm and seed at once."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch

from lottery_ticket.config import Settings
from lottery_ticket.data.prepared import Data
from lottery_ticket.engine.altered import seen_by
from lottery_ticket.engine.device import exactly
from lottery_ticket.engine.gradients import Gradients
from lottery_ticket.engine.job import (
    LEARNING,
    Member,
    Train,
    Trained,
    Watch,
    at_last_rate,
    in_iterations,
    iterations_per_round,
    shifted,
    steps,
)
from lottery_ticket.engine.training import train as train_here
from lottery_ticket.masks import Mask, Weights, density, survivors, under
from lottery_ticket.method.arms import Moment, arm_named
from lottery_ticket.method.criteria import Evidence, scores_by
from lottery_ticket.method.found import found_by
from lottery_ticket.method.schedule import as_many, next_mask, pruning_of
from lottery_ticket.models.cost import MultiplyAdds
from lottery_ticket.models.network import Network
from lottery_ticket.randomness import derive
from lottery_ticket.record import Record, best_point, early_stop_point, pack_bits


@dataclass(frozen=True)
class Round:
    """A finished round of one trajectory: what was trained, what came of it.

    Attributes:
        record: its numbers.
        mask: prunable tensor → bool tensor, the survivors during this round, or at its end where they changed.
        start: the values the training started from (θ₀ for a winning ticket); pruned ones do not count, but where an
            arm freezes them there.
        weights: the trained parameters and buffers, pruned weights exactly zero, or frozen at their start values.
        rewound: what the arm `winning` starts from in later rounds where that is not θ₀: θₖ, told in round 0, or the
            values of a ticket that is trained again, told in its first round.
        next_mask: what pruning leaves for the next round, where there is one and this arm finds its own mask.

    Example:
        >>> winning, *_ = next(lottery_ticket.find_tickets(settings, network, data))  # which see
        >>> winning.record.round, winning.mask["fc1.weight"].dtype, winning.weights["fc1.weight"].shape
        (0, torch.bool, torch.Size([300, 784]))
    """

    record: Record
    mask: Mask = field(repr=False)
    start: Weights = field(repr=False)
    weights: Weights = field(repr=False)
    rewound: Weights | None = field(default=None, repr=False)
    next_mask: Mask | None = field(default=None, repr=False)


Result = tuple[Member, Trained]
"""What was trained, and what became of it."""


@dataclass(frozen=True)
class Checkpoint:
    """All that a run goes on with after a complete round.

    Attributes:
        records: of the round, one for each trajectory.
        masks: (arm, seed) → mask of the next round, for the arms that find their own and go on.
        initial: seed → θ₀ as it was drawn when the run began, of the seeds of the arm `winning` that go on.
        rewound: seed → θₖ, with late rewinding.
        trained: (arm, seed) → trained weights of the round, of the arms whose starts are kept and that go on.
        dense: (arm, seed) → trained weights of round 0, where pruning is one-shot, of the arms that find their own
            masks and go on.
    """

    records: Sequence[Record]
    masks: dict[tuple[str, int], Mask]
    initial: dict[int, Weights]
    rewound: dict[int, Weights]
    trained: dict[tuple[str, int], Weights] = field(default_factory=dict)
    dense: dict[tuple[str, int], Weights] = field(default_factory=dict)


def find_tickets(
    settings: Settings,
    network: Network,
    data: Data | None,
    after: Checkpoint | None = None,
    watch: Watch | None = None,
    train: Train = train_here,
) -> Iterator[list[Round]]:
    """Iterative magnitude pruning with rewinding: yields each round's trajectories as they are finished.

    A trajectory ends that diverged, so that its own mask cannot be found, or whose mask leaves no path from the images
    to the scores, and so does one that would borrow that mask; the others go on.

    Args:
        settings: arms, seeds, rounds, rates and training.
        network, data: what to train on what; None where `train` has data of its own.
        after: the round to go on after.
        watch: told of progress within a round.
        train: what trains the members of a round: this process, or `Workers.train`.

    Example:
        >>> from lottery_ticket.data import load_images, prepare
        >>> from lottery_ticket.models import make_network
        >>> settings = lottery_ticket.load_preset(dataset="my.npz", rounds=2, iterations=10)
        >>> data = prepare(load_images("my.npz"), settings.validation_size, torch.device("cpu"))
        >>> network = make_network(settings, data.input_shape, data.classes)
        >>> for rounds in lottery_ticket.find_tickets(settings, network, data):
        ...     print([f"{each.record.arm} {each.record.density:.0%}" for each in rounds])
        ['winning 100%', 'reinit 100%']
        ['winning 80%', 'reinit 80%']
    """
    settings = in_iterations(settings, len(data.train)) if data else settings
    state = Trajectories(settings, network, data, after)
    while state.alive:
        (rounds,) = train_round([state], network, data, settings, watch, train)
        yield rounds


def train_round(
    experiments: Sequence["Trajectories"],
    network: Network,
    data: Data | None,
    settings: Settings,
    watch: Watch | None = None,
    train: Train = train_here,
) -> list[list[Round]]:
    """The next round of several experiments that are at the same one, trained side by side.

    In turns, where arms borrow masks that others make in this round: those that lend first.

    Args:
        experiments: of settings that differ from `settings` in nothing but what a member may have of its own.
        network, data, settings, watch, train: as for `find_tickets`.
    """
    r, snapshot_at = experiments[0].round, experiments[0].snapshot_at
    done: list[list[Result]] = [[] for _ in experiments]
    before, waiting = 0, sum(each.waiting for each in experiments)
    while any(turn := [each.members(results) for each, results in zip(experiments, done, strict=True)]):
        members = [
            member if each.settings == settings else replace(member, settings=member.settings or each.settings)
            for each, own in zip(experiments, turn, strict=True)
            for member in own
        ]
        heard = watch
        if waiting and data:
            images = len(data.train)
            after = before + steps(members, settings, images)
            later = 0 if before else waiting * iterations_per_round(settings, images)
            heard, before = shifted(watch, before, after + later), after
        trained = iter(train(network, members, data, settings, r, snapshot_at, heard))
        for results, own in zip(done, turn, strict=True):
            results += [(member, next(trained)) for member in own]
    return [each.finish(results) for each, results in zip(experiments, done, strict=True)]


class Trajectories:
    """The trajectories of one experiment between two rounds: what is to be trained next, and what came of it.

    `find_tickets` goes through them; a sweep goes through those of several experiments side by side (`train_round`).

    Args:
        settings: arms, seeds, rounds and rates.
        network, data: what is trained on what.
        after: the round to go on after.
    """

    def __init__(
        self, settings: Settings, network: Network, data: Data | None, after: Checkpoint | None = None
    ) -> None:
        self._settings, self._network, self._data = settings, network, data
        self._arms = {name: arm_named(name) for name in settings.arms}
        self._pruning = pruning_of(settings)
        if after is None:
            dense = {(arm, seed): network.dense_mask() for arm in settings.arms for seed in settings.seeds}
            after = Checkpoint([], dense, {}, {})
        self._last, self._masks = after.records, after.masks
        self._initial = {seed: after.initial.get(seed) or network.draw(seed, "init") for seed in settings.seeds}
        self._rewound, self._trained, self._dense = dict(after.rewound), dict(after.trained), dict(after.dense)

    @property
    def settings(self) -> Settings:
        """Arms, seeds, rounds and rates."""
        return self._settings

    @property
    def round(self) -> int:
        """The round to train next."""
        return self._last[0].round + 1 if self._last else 0

    @property
    def snapshot_at(self) -> int | None:
        """The iteration of that round after which the weights are kept to rewind to."""
        return self._settings.rewind_iteration or None if self.round == 0 else None

    @property
    def alive(self) -> list[tuple[str, int]]:
        """The (arm, seed) of the next round; none where the experiment ends."""
        return alive(self._settings, self._last) if self.round < self._settings.rounds else []

    @property
    def waiting(self) -> int:
        """How many in the next round borrow masks that others make in it."""
        return sum(self._waits(*key) for key in self.alive)

    def members(self, done: Sequence[Result] = ()) -> list[Member]:
        """What to train next in that round, of which these are done, each from its start under its mask.

        At first all that need no mask of this round, then those whose mask was made.
        """
        if not done:
            return [self._member(*key, {}) for key in self.alive if not self._waits(*key)]
        made = {(member.arm, member.seed): _mask_of(member, result) for member, result in done if _goes_on(result)}
        there = {(member.arm, member.seed) for member, _ in done}
        return [self._member(*key, made) for key in self.alive if key not in there and self._finder(*key) in made]

    def _waits(self, arm: str, seed: int) -> bool:
        """Whether its mask is another's that is made in the next round; round 0 is dense."""
        finder = self._finder(arm, seed)
        return self.round > 0 and finder != (arm, seed) and self._arms[finder[0]].makes_mask

    def _member(self, name: str, seed: int, made: Mapping[tuple[str, int], Mask]) -> Member:
        arm = self._arms[name]
        held = at_last_rate(self._settings) if self.round > 0 and arm.training == "last-rate" else None
        return Member(name, seed, *arm.start(self._moment(name, seed, made)), held, arm.training)

    def finish(self, done: Sequence[Result]) -> list[Round]:
        """The round that was trained; the next one begins."""
        r = self.round
        going_on = r + 1 < self._settings.rounds
        scored = Counter[tuple[str, int]]()
        by_arm = {(member.arm, member.seed): result for member, result in done}
        if r == 0:
            self._rewound |= {
                seed: each.snapshot
                for (arm, seed), each in by_arm.items()
                if arm == "winning" and each.snapshot is not None
            }
            self._dense = {key: each.weights for key, each in by_arm.items() if self._needs_dense(key[0])}
        self._masks = self._next_masks(done, scored) if going_on else {}
        rounds: dict[tuple[str, int], Round] = {}
        for member, result in done:
            key = member.arm, member.seed
            to_find = self._to_find(member, rounds)
            rounds[key] = finished_round(r, member, result, self._masks.get(key), self._network, scored[key], to_find)
        self._trained = {
            key: self._dense.get(key, each.weights) for key, each in by_arm.items() if self._arms[key[0]].keep_start
        }
        in_order = [rounds[key] for key in self.alive if key in rounds]
        self._last = [finished.record for finished in in_order]
        return in_order

    def _needs_dense(self, arm: str) -> bool:
        return self._pruning == "one-shot" and self._arms[arm].own_mask

    def _to_find(self, member: Member, now: Mapping[tuple[str, int], Round]) -> int | None:
        """The multiply-adds that a member's mask has cost beforehand; None where that is not known.

        `now` are the rounds of those that were trained before it.
        """
        before = found_by(self._settings, member.arm, member.seed, self.round)
        if before is None:
            return 0
        records = [each.record for each in now.values()] if before.round == self.round else self._last
        there = next((record for record in records if (record.arm, record.seed, record.round) == before[:3]), None)
        if there is None or there.cost is None:
            return None
        if before.part == "scored":
            return there.cost.scored(there.sparse)
        return there.cost.to_find if before.part == "to_find" else there.cost.found_with

    def _next_masks(self, done: Sequence[Result], scored: Counter[tuple[str, int]]) -> dict[tuple[str, int], Mask]:
        """(arm, seed) → mask of the next round, for the arms that find their own and go on.

        `scored` is told of how many images a criterion asks for gradients.
        """
        return {
            (member.arm, member.seed): self._network.dense_mask()
            if self._arms[member.arm].dense
            else self._pruned(member, result, scored)
            for member, result in done
            if self._arms[member.arm].own_mask and _goes_on(result)
        }

    def _pruned(self, member: Member, result: Trained, scored: Counter[tuple[str, int]]) -> Mask:
        """The mask that a member's next round begins with."""
        judged, weights, at = member, result.weights, self.round
        if self._pruning != "iterative":
            judged, at = self._unpruned(member, 0 if self._pruning == "one-shot" else self.round + 1), 0
            weights = self._dense.get((member.arm, member.seed), judged.weights)
        arm = self._arms[member.arm]
        initial = judged.weights if arm.draws else self._initial[member.seed]
        inverted = (self._settings.prune_first == "highest") is not arm.inverted
        seen = evidence(self._settings, self._network, self._data, at, judged, weights, initial)

        def score(mask: Mask) -> Weights:
            values, multiplied = under(mask, weights), mask
            if member.frozen:
                values, multiplied = weights, self._network.dense_mask()
            known = replace(seen, mask=mask, weights=values, gradients=seen.gradients.under(multiplied))
            with self._measuring():
                scores = scores_by(self._settings.criterion, known, inverted)
            scored[member.arm, member.seed] += known.gradients.seen
            return scores

        return next_mask(self._settings, self._network, judged.mask, self.round + 1, score)

    def _measuring(self) -> AbstractContextManager[None]:
        """Within it, what is measured is in float32 and the same each time, whatever networks are trained in."""
        if self._data is None:
            return nullcontext()
        return exactly(self._settings, self._data.train.y.device)

    def _unpruned(self, member: Member, r: int) -> Member:
        """A member as it would start round r if nothing were pruned."""
        dense, seed = self._network.dense_mask(), member.seed
        rewound = self._rewound.get(seed, self._initial[seed]) if r else self._initial[seed]
        start = self._arms[member.arm].start(
            Moment(lambda: self._network, seed, r, dense, dense, self._initial[seed], rewound)
        )
        return Member(member.arm, seed, dense, start.weights, training=member.training)

    def _moment(self, arm: str, seed: int, made: Mapping[tuple[str, int], Mask]) -> Moment:
        own_mask = self._arms[arm].own_mask
        masks = made if self._waits(arm, seed) else self._masks
        found = masks.get(("winning", seed) if own_mask else self._finder(arm, seed), {})
        if self._arms[arm].training in LEARNING:
            found = as_many(self._settings, self._network, self.round)
        own = self._masks[arm, seed] if own_mask else found
        initial, rewound = self._initial[seed], self._rewound.get(seed, self._initial[seed])
        rewound_at = self._settings.rewound_at if seed in self._rewound else 0
        trained = self._trained.get((arm, seed), {})
        return Moment(lambda: self._network, seed, self.round, own, found, initial, rewound, rewound_at, trained)

    def _finder(self, arm: str, seed: int) -> tuple[str, int]:
        """The trajectory whose training finds the masks of this one."""
        return self._arms[arm].finder(arm, seed, self._settings.seeds)


def alive(settings: Settings, last: Sequence[Record], now: Sequence[Record] = ()) -> list[tuple[str, int]]:
    """The (arm, seed) that go on after a round: all at the start, then those whose mask could be found.

    One that learns its mask goes on whatever it learned before. Of the round itself `now` are those records that are
    there: who would borrow a mask that it made, and that could not be found, does not go on.
    """
    arms = {name: arm_named(name) for name in settings.arms}
    there = {(r.arm, r.seed) for r in last}
    found = {(r.arm, r.seed) for r in last if arms[r.arm].own_mask and r.goes_on}
    lost = {(r.arm, r.seed) for r in now if not r.goes_on}

    def goes_on(name: str, seed: int) -> bool:
        finder = arms[name].finder(name, seed, settings.seeds)
        if (name, seed) not in there:
            return False
        if arms[finder[0]].makes_mask:
            return finder == (name, seed) or (finder not in lost and goes_on(*finder))
        return finder in found

    every = [(name, seed) for name in arms for seed in settings.seeds]
    return [key for key in every if goes_on(*key)] if last else every


def _goes_on(result: Trained) -> bool:
    """As `Record.goes_on`."""
    return not result.diverged and result.connected is not False


def _mask_of(member: Member, result: Trained) -> Mask:
    """The mask of a member when its training ended."""
    return result.changed.mask if result.changed else member.mask


def evidence(
    settings: Settings,
    network: Network,
    data: Data | None,
    index: int,
    member: Member,
    weights: Weights,
    initial: Weights,
) -> Evidence:
    """What a criterion may draw on of a member that was trained in the round `index` to these weights, from θ₀."""
    draws = derive(member.seed, "gradients", index)
    images = seen_by(member, data.train) if data else None
    multiplied = network.dense_mask() if member.frozen else member.mask
    return Evidence(
        weights,
        member.weights,
        initial,
        member.mask,
        member.seed,
        index,
        len(images) if images else 0,
        images.y.cpu() if images else torch.zeros(0, dtype=torch.int64),
        Gradients(network, multiplied, images, settings.batch_size, draws, settings.criterion),
    )


def finished_round(
    index: int,
    member: Member,
    trained: Trained,
    next_mask: Mask | None,
    network: Network,
    scored: int = 0,
    to_find: int | None = None,
) -> Round:
    """What training made of a member, as a round; for the last two see `MultiplyAdds.cost`."""
    counted = network.multiply_adds
    cost, changed = None, trained.changed
    mask = _mask_of(member, trained)
    if isinstance(counted, MultiplyAdds):
        multiplied = network.dense_mask() if member.frozen else mask
        more = (changed.densities, changed.dense_gradients) if changed else ()
        cost = counted.cost(multiplied, trained.images, trained.sparse, scored, to_find, *more)
    settled = [point for point in trained.curve if changed is None or point.iteration >= changed.settled_at]
    last, best = trained.curve[-1], best_point(settled)
    stop = early_stop_point(settled) if member.how != "untrained" else None
    record = Record(
        arm=member.arm,
        seed=member.seed,
        round=index,
        density=density(mask),
        densities={name: float(kept.float().mean()) for name, kept in mask.items()},
        survivors=survivors(mask),
        iterations=last.iteration,
        begins_at=member.begins_at,
        train_loss=trained.train_loss,
        validation_loss=last.validation_loss,
        test_loss=last.test_loss,
        test_accuracy=last.test_accuracy,
        test_loss_best=best.test_loss,
        test_accuracy_best=best.test_accuracy,
        best_epoch=best.epoch,
        early_stop_iteration=stop.iteration if stop else None,
        test_loss_early_stop=stop.test_loss if stop else None,
        test_accuracy_early_stop=stop.test_accuracy if stop else None,
        seconds=trained.seconds,
        evaluation_seconds=trained.evaluation_seconds,
        finished_at=round(time.time() * 1000),
        diverged=trained.diverged,
        test_size=len(trained.correct),
        correct=pack_bits(trained.correct),
        curve=trained.curve,
        majority=trained.majority,
        constant=trained.constant,
        connected=trained.connected,
        sparse=trained.sparse,
        measured=dict(trained.measured),
        cost=cost,
    )
    rewound = trained.snapshot if member.arm == "winning" else None
    return Round(record, mask, member.weights, trained.weights, rewound, next_mask)
