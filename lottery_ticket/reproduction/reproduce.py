"""A report or paper reproduced, from its name to a page: its runs, a verdict on every claim, files in a folder."""

from collections.abc import Sequence
from pathlib import Path

from lottery_ticket.reproduction.asked import asked
from lottery_ticket.reproduction.jobs import ReproductionListener, carry_out
from lottery_ticket.reproduction.keep import Kept, keep_report
from lottery_ticket.store import reach


@reach.quietly()
def reproduce(
    report: Path | str,
    scale: str = "quick",
    only: str | Sequence[str] = (),
    dest: Path | str | None = None,
    *,
    tracking_uri: str | None = None,
    experiment: str = reach.DEFAULT_EXPERIMENT,
    command: str | None = None,
    listener: ReproductionListener | None = None,
) -> Kept:
    """Run what a report's claims need, judge every claim, and write report.md and report.html.

    Runs that are in the store with the same settings are read, not trained again; the same call goes on after an
    interruption.

    Args:
        report: the name of a shipped one (`shu`, `frankle-lenet`), or the path of a `.toml` file.
        scale: `quick`, or `report`: as large as the source's own.
        only: claims, in a sequence or separated by commas; default: all.
        dest: folder for the report; default: mlruns/reproductions/REPORT-SCALE, with `only` also its claims.
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
    wanted = asked(report, scale, only, dest)
    done = carry_out(
        wanted.reproduction,
        wanted.name,
        wanted.scale,
        wanted.claims,
        tracking_uri=tracking_uri,
        experiment=experiment,
        listener=listener,
    )
    given = {"scale": scale, **({"only": list(wanted.claims)} if wanted.claims else {})}
    call = ", ".join([repr(str(report)), *(f"{key}={value!r}" for key, value in given.items())])
    return keep_report(done, wanted.folder, command or f"lottery_ticket.reproduce({call})", experiment)
