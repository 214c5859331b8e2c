"""An analysis of a finished run: what it found, as a table and figures in a folder and in MLflow."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from lottery_ticket import plugins
from lottery_ticket.analysis.analyses import analysis_named
from lottery_ticket.analysis.plots import save_all
from lottery_ticket.analysis.stored_run import Finding, StoredRun
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.store import connection, layout, reach, reading
from lottery_ticket.store.reading import Stored
from lottery_ticket.untrusted import in_csv


@dataclass(frozen=True)
class Analysed:
    """What an analysis of a run found, and the files that hold it."""

    run_id: str
    analysis: str
    finding: Finding
    files: list[Path]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "run_id": self.run_id,
            "analysis": self.analysis,
            "says": list(self.finding.says),
            "table": [dict(row) for row in self.finding.table],
            "files": [str(path) for path in self.files],
        }


@reach.quietly()
def analyse(run_id: str, analysis: str, dest: Path | str | None = None, *, tracking_uri: str | None = None) -> Analysed:
    """Analyse a finished run; table and figures are kept in the run, under `analyses/NAME`, and in a folder.

    Args:
        run_id: of a run of `lt run`.
        analysis: one of `lt plugins`, or your own as `module:name`.
        dest: folder for table and figures; default: mlruns/analyses/RUN/NAME.
        tracking_uri: of the MLflow store, as for `run`.

    Raises:
        InputError: no such run or analysis, or a run that has not what the analysis needs.
        LotteryTicketError: the analysis failed, or the store did.

    Example:
        >>> analysed = lottery_ticket.analyse(run_id, "overlap", "overlap")
        >>> analysed.finding.says[0]
        'At 80 % left two seeds share ... % of the survivors of either; chance gives 66.67 %.'
        >>> [path.name for path in analysed.files]
        ['overlap.png', 'overlap.csv']
    """
    chosen, name = analysis_named(analysis), plugins.short(analysis)
    client = connection.connect(tracking_uri, create=False)
    stored = reading.read_run(client, run_id, "RUN")
    stored.must_be_whole(client.tracking_uri)
    try:
        finding = chosen.of(_as_seen(client, stored))
    except LotteryTicketError:
        raise
    except Exception as error:
        raise LotteryTicketError(f"the analysis {analysis} failed: {one_line(error)}") from error
    if not isinstance(finding, Finding):
        raise plugins.unfit("ANALYSIS", analysis, finding, "one that gives a lottery_ticket.analysis.Finding")
    folder = Path(dest) if dest else Path("mlruns", "analyses", run_id, name)
    try:
        files = save_all(finding.figures, folder)
        if finding.table:
            files.append(folder / f"{name}.csv")
            files[-1].write_text(_as_csv(finding.table), encoding="utf-8")
    except OSError as error:
        raise LotteryTicketError(f"{folder} cannot be written: {one_line(error)}") from error
    with connection.telling(f"keeping the analysis {name} of run {run_id}"):
        for file in files:
            client.log_artifact(run_id, str(file), f"analyses/{name}")
    return Analysed(run_id, analysis, finding, files)


def _as_seen(client: MlflowClient, stored: Stored) -> StoredRun:
    def child(arm: str, seed: int) -> str:
        if (arm, seed) not in stored.children:
            there = ", ".join(f"{arm}-seed{seed}" for arm, seed in stored.children)
            raise InputError("RUN", stored.run_id, f"has no trajectory {arm}-seed{seed}; allowed: {there}")
        return stored.children[arm, seed]

    def mask(arm: str, seed: int, r: int) -> Any:
        return reading.read_mask(client, child(arm, seed), r)

    def trained(arm: str, seed: int, r: int) -> Any:
        return reading.read_trained(client, child(arm, seed), r, mask(arm, seed, r))

    def initial(seed: int) -> Any:
        return reading.read_weights(client, child("winning", seed), layout.INIT)

    return StoredRun(stored.run_id, stored.name, stored.settings, stored.records, mask, trained, initial)


def _as_csv(table: Sequence[Mapping[str, Any]]) -> str:
    written = io.StringIO()
    rows = csv.DictWriter(written, list(table[0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows({key: in_csv(value) for key, value in row.items()} for row in table)
    return written.getvalue()
