"""`lt sync`: deliver finished rounds that a store did not take."""

import json
from typing import TYPE_CHECKING

import typer

from lottery_ticket.cli.options import Json, TrackingUri
from lottery_ticket.errors import LotteryTicketError

if TYPE_CHECKING:
    from lottery_ticket.experiment import Synced


def sync(tracking_uri: TrackingUri = None, as_json: Json = False) -> None:
    """Deliver the rounds that a run kept because the tracking store did not answer; conclude runs that are trained."""
    from lottery_ticket.address import tracking_uri as address
    from lottery_ticket.outbox import outbox_root

    root = outbox_root(address(tracking_uri))
    waiting = sorted(folder.name for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []

    from lottery_ticket import experiment as lab
    from lottery_ticket import store

    if waiting or tracking_uri:
        store.connect(tracking_uri, create=False)
    done, failed = [], []
    for run_id in waiting:
        try:
            done.append(lab.sync(run_id, tracking_uri=tracking_uri))
        except LotteryTicketError as error:
            failed.append(error)
            typer.echo(f"lt: {error}", err=True)
    if as_json:
        typer.echo(json.dumps([{"run_id": each.run_id, "name": each.name, "finished": each.finished} for each in done]))
    else:
        for each in done:
            _tell(each, tracking_uri)
        if not waiting:
            typer.echo(f"nothing waits in {root}")
    if failed:
        raise LotteryTicketError(f"{len(failed)} of {len(waiting)} runs in {root} are not delivered")


def _tell(done: "Synced", tracking_uri: str | None) -> None:
    from lottery_ticket.cli.display import resume_command

    if done.finished:
        typer.echo(f"{done.run_id} ({done.name}): delivered, finished")
    elif done.kind == "trial":
        typer.echo(f"{done.run_id} ({done.name}): delivered; the same lt sweep goes on with it")
    else:
        typer.echo(f"{done.run_id} ({done.name}): delivered. {resume_command(done.run_id, tracking_uri, done.model)}")
