"""`lt sync`: deliver finished rounds that a store did not take."""

import json

import typer

from lottery_ticket.cli.options import Json, TrackingUri


def sync(tracking_uri: TrackingUri = None, as_json: Json = False) -> None:
    """Deliver the rounds that a run kept because the tracking store did not answer; conclude runs that are trained."""
    from lottery_ticket.address import tracking_uri as address
    from lottery_ticket.outbox import outbox_root

    root = outbox_root(address(tracking_uri))
    waiting = sorted(folder.name for folder in root.iterdir()) if root.is_dir() else []

    from lottery_ticket import experiment as lab
    from lottery_ticket.cli.display import resume_command

    done = [lab.sync(run_id, tracking_uri=tracking_uri) for run_id in waiting]
    if as_json:
        typer.echo(json.dumps([{"run_id": each.run_id, "name": each.name, "finished": each.finished} for each in done]))
        return
    for each in done:
        if each.finished:
            typer.echo(f"{each.run_id} ({each.name}): delivered, finished")
        elif each.kind == "trial":
            typer.echo(f"{each.run_id} ({each.name}): delivered; the same lt sweep goes on with it")
        else:
            typer.echo(f"{each.run_id} ({each.name}): delivered. {resume_command(each.run_id, tracking_uri)}")
    if not done:
        typer.echo(f"nothing waits in {root}")
