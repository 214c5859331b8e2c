"""`lt sync`: deliver finished rounds that a store did not take."""

import json
from typing import TYPE_CHECKING

from lottery_ticket.cli.options import Json, TrackingUri
from lottery_ticket.cli.say import say
from lottery_ticket.errors import LotteryTicketError, one_line

if TYPE_CHECKING:
    from lottery_ticket.runs.sync import Synced


def sync(tracking_uri: TrackingUri = None, as_json: Json = False) -> None:
    """Deliver the rounds that a run kept because the tracking store did not answer; conclude runs that are trained."""
    from lottery_ticket.address import tracking_uri as address
    from lottery_ticket.store.outbox import Outbox, is_run, outbox_root

    uri = address(tracking_uri)
    root = outbox_root(uri)
    folders = (
        sorted(folder.name for folder in root.iterdir() if folder.is_dir() and is_run(folder.name))
        if root.is_dir()
        else []
    )
    waiting = [run_id for run_id in folders if not Outbox(uri, run_id).settled]

    if waiting or tracking_uri:
        from lottery_ticket.store import connection

        connection.connect(tracking_uri, create=False)
    done: list[Synced] = []
    failed = 0
    for run_id in waiting:
        from lottery_ticket.runs.sync import sync

        try:
            done.append(sync(run_id, tracking_uri=tracking_uri))
        except Exception as error:  # whatever it is, it holds up no other run
            failed += 1
            why = str(error) if isinstance(error, LotteryTicketError) else f"{run_id}: {one_line(error)}"
            say(f"lt: {why}", err=True)
    if as_json:
        told = ("run_id", "name", "finished", "refused", "deleted")
        say(json.dumps([{name: getattr(each, name) for name in told} for each in done]))
    else:
        for each in done:
            _tell(each, tracking_uri)
        if not waiting:
            say(f"nothing waits in {root}")
        for run_id in folders:
            if (outbox := Outbox(uri, run_id)).refused:
                say(f"{run_id}: what the store will never take is in {outbox.aside}")
    refused = [(each.run_id, what) for each in done for what in each.refused]
    for run_id, what in refused:
        say(f"lt: {run_id}: not taken, set aside: {what}", err=True)
    if failed:
        raise LotteryTicketError(f"{failed} of {len(waiting)} runs in {root} are not delivered")
    if refused:
        raise LotteryTicketError(
            f"{len(refused)} things are set aside that the store will never take; the rest is there"
        )


def _tell(done: "Synced", tracking_uri: str | None) -> None:
    from lottery_ticket.cli.display import resume_command

    if done.deleted:
        say(f"{done.run_id}: waits for being restored. {done.deleted}")
    elif done.finished:
        say(f"{done.run_id} ({done.name}): delivered, finished")
    elif done.kind == "trial":
        say(f"{done.run_id} ({done.name}): delivered; the same lt sweep goes on with it")
    elif done.kind == "find":
        go_on = f'lottery_ticket.find(…, resume="{done.run_id}") goes on with it'
        say(f"{done.run_id} ({done.name}): delivered; {go_on}")
    elif done.kind == "train":
        say(f"{done.run_id} ({done.name}): delivered; nothing goes on with a training of a ticket but lt train anew")
    else:
        say(f"{done.run_id} ({done.name}): delivered. {resume_command(done.run_id, tracking_uri, done.code)}")
