"""The tickets of a whole MLflow store as a list; needs no torch, so that it comes at once."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from lottery_ticket.address import sqlite_file
from lottery_ticket.address import tracking_uri as store_uri
from lottery_ticket.config import params_then
from lottery_ticket.store.layout import WHOLE
from lottery_ticket.store.summary import in_words, read_rounds, read_verdict

if TYPE_CHECKING:
    from lottery_ticket.record import Answer


_Run = tuple[str, str, dict[str, str], dict[str, str]]
"""A run's id, name, params and tags."""


@dataclass(frozen=True)
class Listed:
    """A ticket in the store, in numbers; accuracies 0–1. `verdict` is "" while the run has none.

    `more_than_dense`: iterations that tickets of its run were trained more than the dense network.
    """

    run_id: str
    run_name: str
    trajectory: str
    model: str
    dataset: str
    arm: str
    seed: int
    round: int
    density: float
    test_accuracy: float
    dense_accuracy: float | None
    matching: "Answer | None"
    winning: "Answer | None"
    more_than_dense: int = 0

    @property
    def verdict(self) -> str:
        """The verdict in words; about the arm `winning` only."""
        words = in_words(self.matching, self.winning)
        return f"{words} (+{self.more_than_dense} iterations)" if words and self.more_than_dense else words


def list_tickets(tracking_uri: str | None = None) -> list[Listed]:
    """Every ticket (round 1 and later, of every arm and seed) of every run in the store, newest run first.

    InputError if the store cannot be reached.
    """
    file = sqlite_file(store_uri(tracking_uri))
    runs = _read_sqlite(file) if file else None
    if runs is None:
        runs = _read_store(tracking_uri)
    return [ticket for run in runs for ticket in listed(*run)]


def _read_store(tracking_uri: str | None) -> list[_Run]:
    from lottery_ticket.store import connection

    client = connection.connect(tracking_uri, create=False)
    with connection.telling("listing the runs"):
        experiments = [each.experiment_id for each in client.search_experiments()]
        runs = [
            run
            for kind in WHOLE
            if experiments
            for run in connection.search(client, experiments, f"tags.`lt.kind` = '{kind}'")
        ]
    runs.sort(key=lambda run: -run.info.start_time)
    return [(run.info.run_id, run.info.run_name, run.data.params, run.data.tags) for run in runs]


def _read_sqlite(file: Path) -> list[_Run] | None:
    """The runs in an MLflow database, without MLflow, whose import alone takes longer than all else.

    None where the file is not what MLflow 3.17 makes: what is wrong with it is for MLflow to say.
    """
    query = f"""
        SELECT run_uuid, runs.name, entry.key, entry.value
        FROM runs JOIN experiments USING (experiment_id) JOIN tags AS kind USING (run_uuid)
        JOIN {{table}} AS entry USING (run_uuid)
        WHERE kind.key = 'lt.kind' AND kind.value IN {WHOLE}
        AND runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active'
        ORDER BY runs.start_time DESC
    """
    found: dict[str, _Run] = {}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True, timeout=20)) as database:
            for table in ("params", "tags"):
                for run_id, name, key, value in database.execute(query.format(table=table)):
                    _, _, params, tags = found.setdefault(run_id, (run_id, name, {}, {}))
                    (params if table == "params" else tags)[key] = value
    except sqlite3.Error:
        return None
    return list(found.values())


def listed(run_id: str, run_name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> list[Listed]:
    """The tickets of a run, from its params and tags."""
    try:
        rounds, verdict, then = list(read_rounds(tags)), read_verdict(tags), params_then(params)
        more = int(then["rewind_iteration"]) if then.get("rewind_steps") == "restart" else 0
    except (ValueError, TypeError, KeyError, IndexError):  # tags that somebody edited
        return []
    dense = {each.seed: each.test_accuracy for each in rounds if each.round == 0 and each.arm == "winning"}
    tickets = []
    for each in rounds:
        if each.round > 0:
            matching, winning = verdict.get(each.round, (None, None)) if each.arm == "winning" else (None, None)
            tickets.append(
                Listed(
                    run_id=run_id,
                    run_name=run_name,
                    trajectory=each.trajectory,
                    model=params.get("model", ""),
                    dataset=params.get("dataset", ""),
                    arm=each.arm,
                    seed=each.seed,
                    round=each.round,
                    density=each.density,
                    test_accuracy=each.test_accuracy,
                    dense_accuracy=dense.get(each.seed),
                    matching=matching,
                    winning=winning,
                    more_than_dense=more,
                )
            )
    return tickets
