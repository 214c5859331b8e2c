"""What a run found, from training it or from the store alone."""

import json
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from lottery_ticket.address import public
from lottery_ticket.analysis.verdict import Verdict
from lottery_ticket.record import Record
from lottery_ticket.runs.conclude import draw, judge_stored
from lottery_ticket.runs.rounds_table import conclusions, rounds_table
from lottery_ticket.runs.stopwatch import Part, Stopwatch
from lottery_ticket.store import connection, reach, reading
from lottery_ticket.store.find import find
from lottery_ticket.store.reading import Stored
from lottery_ticket.tickets.ticket import Ticket


@dataclass(frozen=True, repr=False)
class Result:
    """What a run found; a notebook shows it as its table and verdict.

    Attributes:
        stored: the run as MLflow has it: ids, settings and the records of all rounds.
        verdict: None without the arm `winning`.
        figures: paths of the figures drawn.
        times: part of the run → seconds of wall time that this process gave to it: start (all that comes before
            and is none of the others: imports, checks, a rehearsal in small), data, training, evaluation, tracking
            (waiting for MLflow; what it does beside the training is not waited for) and figures (and the verdict).

    Example:
        >>> result = lottery_ticket.load_run(run_id)
        >>> len(result.rounds), result.verdict.control, [judged.round for judged in result.verdict.rounds]
        (8, 'reinit', [1])
        >>> result.ticket(round=1, seed=1).density
        0.8
    """

    stored: Stored
    verdict: Verdict | None
    figures: list[Path]
    times: dict[Part, float]
    client: MlflowClient

    def __repr__(self) -> str:
        last = max((record.round for record in self.rounds), default=None)
        return f"Result(run_id={self.run_id!r}, name={self.stored.name!r}, last_round={last})"

    def _repr_html_(self) -> str:
        table = rounds_table(self.stored, self.verdict).to_html()
        sentences = [*conclusions(self.stored, self.verdict), f"Run {self.run_id}."]
        return table + "".join(f"<div>{escape(sentence)}</div>" for sentence in sentences)

    @property
    def run_id(self) -> str:
        """The id of the parent run in MLflow."""
        return self.stored.run_id

    @property
    def rounds(self) -> list[Record]:
        """The numbers of every finished round of every arm and seed, in order of round."""
        return self.stored.records

    @property
    def seconds(self) -> float:
        """Wall time of this process's part of the run."""
        return math.fsum(self.times.values())

    @property
    def tracking_seconds(self) -> float:
        """That of waiting for MLflow."""
        return self.times["tracking"]

    def to_json(self) -> dict[str, Any]:
        """The result as plain data; rounds without curves and per-image correctness, which MLflow has."""
        return {
            "run_id": self.run_id,
            "name": self.stored.name,
            "experiment_id": self.stored.experiment_id,
            "tracking_uri": public(self.client.tracking_uri),
            "settings": self.stored.settings.model_dump(),
            "rounds": [record.model_dump(exclude={"curve", "correct"}) for record in self.rounds],
            "verdict": json.loads(self.verdict.to_json()) if self.verdict else None,
            "figures": [str(path) for path in self.figures],
            "seconds": self.seconds,
            "tracking_seconds": self.tracking_seconds,
            "times": self.times,
        }

    def ticket(self, round: int, seed: int | None = None) -> Ticket:
        """The winning arm's ticket at a round, read from MLflow; the seed defaults to the smallest.

        InputError where that round was not finished.
        """
        trajectory = "" if seed is None else f":winning-seed{seed}"
        return find(f"{self.run_id}:{round}{trajectory}", tracking_uri=self.client.tracking_uri)

    def smallest_winning_ticket(self) -> Ticket | None:
        """The winning ticket with the fewest weights, of the smallest seed that has it; None if the run found none."""
        won = [r for r in self.verdict.rounds if r.wins == "yes"] if self.verdict else []
        return self.ticket(won[-1].round, min(won[-1].seeds)) if won else None


@reach.quietly()
def load_run(run_id: str, *, figures: Path | str | None = None, tracking_uri: str | None = None) -> Result:
    """A run's result from MLflow alone, judged as `run` judged it.

    Args:
        run_id: of a run of `run`, `train_ticket` or `find`, or of a trial.
        figures: a folder to draw its figures into; None: they are not drawn.
        tracking_uri: of the MLflow store, as for `run`.

    Raises:
        InputError: no such run, or no such store.
        LotteryTicketError: what the store has of it is damaged, or the figures cannot be written.

    Example:
        >>> result = lottery_ticket.load_run(run_id, figures="figures")
        >>> [(record.arm, record.round, round(record.density, 2)) for record in result.rounds[-2:]]
        [('reinit', 1, 0.8), ('reinit', 1, 0.8)]
        >>> result.figures[0].name
        'accuracy.png'
    """
    clock = Stopwatch()
    with clock.part("tracking"):
        client = connection.connect(tracking_uri, create=False)
        stored = reading.read_run(client, run_id)
    with clock.part("figures"):
        verdict = judge_stored(stored)
        drawn = [] if figures is None else draw(client, stored, Path(figures))
    return Result(stored, verdict, drawn, clock.seconds, client)
