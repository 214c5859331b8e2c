"""A run's rounds and verdict in a few tags of its parent, so that one query lists the tickets of a whole store."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lottery_ticket.analysis.verdict import Verdict
    from lottery_ticket.record import Answer, Record


_ROUNDS = "lt.rounds/"
_VERDICT = "lt.verdict/"
_A_TAG = 100
"""Rounds in one tag: MLflow takes 8,000 characters."""

_ANSWERS: "dict[str, Answer]" = {"y": "yes", "n": "no", "u": "undecided"}


class Summary(NamedTuple):
    """One round of one trajectory: its run's id, density and test accuracy (0–1)."""

    trajectory: str
    arm: str
    seed: int
    round: int
    density: float
    test_accuracy: float


def rounds_tags(children: Mapping[tuple[str, int], str], records: "Iterable[Record]", since: int) -> dict[str, str]:
    """Tags of the rounds from `since` on, out of the records of all rounds so far."""
    rounds: dict[str, list[list[float]]] = {}
    for record in records:
        if record.round >= since - since % _A_TAG:
            key = f"{_ROUNDS}{record.arm}-seed{record.seed}/{record.round // _A_TAG}"
            rounds.setdefault(key, []).append([record.round, round(record.density, 8), round(record.test_accuracy, 6)])
    runs = {f"{arm}-seed{seed}": run_id for (arm, seed), run_id in children.items()}
    return {
        key: json.dumps({"run": runs[key.split("/")[1]], "rounds": sorted(each)}, separators=(",", ":"))
        for key, each in rounds.items()
    }


def verdict_tags(verdict: "Verdict") -> dict[str, str]:
    """Tags that hold, for each round, whether it matches and whether it wins."""
    rounds: dict[str, dict[int, str]] = {}
    for judged in verdict.rounds:
        rounds.setdefault(f"{_VERDICT}{judged.round // _A_TAG}", {})[judged.round] = judged.matching[0] + judged.wins[0]
    return {key: json.dumps(each, separators=(",", ":")) for key, each in rounds.items()}


def read_rounds(tags: Mapping[str, str]) -> Iterator[Summary]:
    """The rounds that a parent's tags tell of, trajectory by trajectory."""
    for key, value in tags.items():
        if key.startswith(_ROUNDS):
            arm, _, seed = key.split("/")[1].rpartition("-seed")
            told = _told(value)
            for index, density, accuracy in told["rounds"]:
                if not 0 <= density <= 1 or not 0 <= accuracy <= 1:  # NaN is neither
                    raise ValueError(f"{key} holds numbers that are no fractions")
                if not 0 <= int(seed) < 2**32 or not 0 <= int(index) <= 100_000:
                    raise ValueError(f"{key} holds numbers that are no seed or round")
                yield Summary(str(told["run"]), arm, int(seed), int(index), density, accuracy)


def read_verdict(tags: Mapping[str, str]) -> "dict[int, tuple[Answer, Answer]]":
    """Round → (matching, wins); empty while the run has no verdict."""
    return {
        int(index): (_ANSWERS[answers[0]], _ANSWERS[answers[1]])
        for key, value in tags.items()
        if key.startswith(_VERDICT)
        for index, answers in _told(value).items()
    }


def _told(value: str) -> Any:
    """The JSON of a tag; ValueError where it is none."""
    try:
        return json.loads(value)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def longer_in_words(more: object) -> str:
    """Of a run whose tickets were trained so many iterations more than its dense network: that they were."""
    return f"tickets were trained {more} iterations more than the dense network (--rewind-steps restart, as in lt 0.3)"


def in_words(matching: "Answer | None", winning: "Answer | None") -> str:
    """A verdict on one round as it is printed; empty where there is none."""
    if winning is None:
        return ""
    word = {"yes": "wins", "no": "does not win", "undecided": "undecided"}[winning]
    return f"matches, {word}" if winning != "yes" and matching == "yes" else word
