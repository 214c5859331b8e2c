"""Which seeds a comparison rests on: the same ones on both sides, those that diverged on neither."""

import math
from collections.abc import Sequence

from lottery_ticket.record import Record

CONTROLS = ("reinit", "reinit-own")


def control_of(records: Sequence[Record], controls: Sequence[str] = CONTROLS) -> str | None:
    """The arm that winning tickets have to beat: the first of these that is there."""
    arms = {record.arm for record in records}
    return next((arm for arm in controls if arm in arms), None)


def shared_seeds(records: Sequence[Record], controls: Sequence[str] = CONTROLS) -> dict[int, tuple[int, ...]]:
    """Round → the seeds whose numbers can be compared there.

    A seed counts in a round where the dense network, the winning arm and its control have all finished it without
    diverging. Of runs without the arm `winning`, where all arms have.
    """
    table = {(record.arm, record.seed, record.round): record for record in records}
    arms = dict.fromkeys(record.arm for record in records)
    if "winning" in arms:
        arms = dict.fromkeys(arm for arm in ("winning", control_of(records, controls)) if arm)
    there = {(arm, r) for arm, _, r in table}
    lost = {seed for (arm, seed, r), record in table.items() if (arm, r) == ("winning", 0) and record.diverged}
    seeds = sorted({seed for _, seed, _ in table} - lost)
    return {
        r: tuple(
            seed
            for seed in seeds
            if all(
                (arm, seed, r) in table and not table[arm, seed, r].diverged
                for arm in arms
                if r or (arm, r) in there  # `lt train` trains no control in round 0
            )
        )
        for r in sorted({r for _, _, r in table})
    }


def comparable(records: Sequence[Record], controls: Sequence[str] = CONTROLS) -> list[Record]:
    """The records that means over seeds are made of, so that the means of a round can be compared.

    Those of the seeds in `shared_seeds`; of an arm that is neither the winning one nor its control, those among them
    that have not diverged.
    """
    shared = shared_seeds(records, controls)
    return [record for record in records if record.seed in shared[record.round] and not record.diverged]


def trunk_of(records: Sequence[Record]) -> list[Record]:
    """Those by whose weights left a round is told: of the arm `winning`, or where it is not there of the first arm.

    Most arms have as many left; one that learns its mask, or that prunes none, has its own number.
    """
    return [r for r in records if r.arm == "winning"] or [r for r in records if r.arm == records[0].arm]


def dense_accuracy(records: Sequence[Record], controls: Sequence[str] = CONTROLS) -> float | None:
    """Mean test accuracy of the dense networks, 0–1, of the seeds that count in the last round.

    Of all seeds where none does; None where there is no arm `winning`.
    """
    dense = {r.seed: r.test_accuracy for r in records if (r.arm, r.round) == ("winning", 0)}
    if not dense:
        return None
    shared = shared_seeds(records, controls)
    counted = [accuracy for seed, accuracy in dense.items() if seed in shared[max(shared)]] or list(dense.values())
    return sum(counted) / len(counted)


def mean_accuracy(records: Sequence[Record]) -> str:
    """The mean test accuracy in %, to be read; a dash where there is none."""
    return f"{100 * sum(r.test_accuracy for r in records) / len(records):.2f}" if records else "–"


def mean_left(records: Sequence[Record]) -> float:
    """The mean percent of weights left."""
    return math.fsum(record.weights_remaining_pct for record in records) / len(records)
