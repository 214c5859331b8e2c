"""A report or paper reproduced, from its name to a page: its runs, a verdict on every claim, files in a folder."""

from collections.abc import Sequence
from pathlib import Path

from lottery_ticket.reproduction.asked import asked
from lottery_ticket.reproduction.jobs import Adding, ReproductionListener, carry_out
from lottery_ticket.reproduction.keep import Kept, keep_report
from lottery_ticket.reproduction.records import Folder
from lottery_ticket.store import reach


@reach.quietly()
def reproduce(
    report: Path | str,
    scale: str = "quick",
    only: str | Sequence[str] = (),
    dest: Path | str | None = None,
    *,
    max_seeds: int | None = None,
    records: Path | str | None = None,
    tracking_uri: str | None = None,
    experiment: str = reach.DEFAULT_EXPERIMENT,
    command: str | None = None,
    listener: ReproductionListener | None = None,
) -> Kept:
    """Run what a report's claims need, judge every claim, and write report.md and report.html.

    Trajectories that are in the store, or in the folder `records`, with the same settings on the same data are read,
    not trained again; the same call goes on after an interruption.

    Args:
        report: the name of a shipped one (`shu`, `frankle-lenet`, …), or the path of a `.toml` file.
        scale: `quick`, or `report`: as large as the source's own.
        only: claims, in a sequence or separated by commas; default: all.
        dest: folder for the report; default: mlruns/reproductions/REPORT-SCALE, with `only` also its claims.
        max_seeds: add seeds until each claim is decided or there are so many, by a design that errs no more than a
            fixed number of seeds (`analysis.sequential`). 0: train nothing, and judge what is there. Default: the seeds
            of the report's file alone.
        records: a folder of small files, one for each seed of some settings, that finished trajectories are read from
            and written to, so that sittings and machines without a common store add up.
        tracking_uri, experiment: of MLflow, as for `run`.
        command: what the page says makes it again; default: this call.
        listener: told of progress; default: nobody.

    Raises:
        InputError: no such report, scale or claim, settings that cannot be run here, a folder that cannot be written,
            or an unreachable store; before training starts.

    Example:
        >>> kept = lottery_ticket.reproduce("my-report.toml", only="1", dest="report")
        >>> [(outcome.claim.id, outcome.word) for outcome in kept.done.outcomes]
        [('1', 'undecided')]
        >>> kept.files["report.md"].as_posix()
        'report/report.md'
    """
    wanted = asked(report, scale, only, dest, max_seeds)
    given: dict[str, object] = {"scale": scale, **({"only": list(wanted.claims)} if wanted.claims else {})}
    given |= {"max_seeds": max_seeds} if max_seeds is not None else {}
    given |= {"records": str(records)} if records is not None else {}
    call = ", ".join([repr(str(report)), *(f"{key}={value!r}" for key, value in given.items())])
    command = command or f"lottery_ticket.reproduce({call})"
    done = carry_out(
        wanted.reproduction,
        wanted.name,
        wanted.scale,
        wanted.claims,
        adding=Adding(max_seeds, None if records is None else Folder(Path(records)), command),
        tracking_uri=tracking_uri,
        experiment=experiment,
        listener=listener,
    )
    return keep_report(done, wanted.folder, command, experiment)
