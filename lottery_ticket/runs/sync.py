"""Delivering what waits of a run to a store that did not take it."""

from dataclasses import dataclass, replace

from lottery_ticket.address import public
from lottery_ticket.config import code_flags
from lottery_ticket.data.prepared import describe
from lottery_ticket.data.sources import load_images
from lottery_ticket.errors import InputError
from lottery_ticket.plugins import is_code
from lottery_ticket.runs.conclude import conclude
from lottery_ticket.runs.seeds import more_seeds
from lottery_ticket.store import connection, locks, reading
from lottery_ticket.store.layout import OWN_LOOP
from lottery_ticket.store.outbox import Outbox
from lottery_ticket.store.tracking import Tracker


@dataclass(frozen=True)
class Synced:
    """A run whose rounds the store has now.

    Attributes:
        kind: run, trial of a study, find (`layout.OWN_LOOP`), or train, a ticket once more.
        code: the flags that name what of its settings is code.
        finished: whether it was trained to its end, and no seed is to be added; else `resume` goes on with it.
        refused: what the store will never take, with the reasons.
        deleted: how it comes back, if it is deleted and its rounds wait for that.
    """

    run_id: str
    name: str
    kind: str
    code: dict[str, str]
    finished: bool
    refused: tuple[str, ...] = ()
    deleted: str = ""


def sync(run_id: str, *, tracking_uri: str | None = None) -> Synced:
    """Deliver what waits of a run to the store, and conclude the run if it was trained to its end.

    What the store will never take is set aside. Of a run that is deleted all waits for its being restored: Deleted is
    raised the first time, and again nothing is done.
    """
    client = connection.connect(tracking_uri, create=False)
    outbox = Outbox(client.tracking_uri, run_id)
    try:
        reading.get_run(client, run_id)
    except reading.Deleted as error:
        if outbox.tell_deleted():
            raise
        return Synced(run_id, "", "", {}, False, deleted=str(error))
    except InputError:
        why = f"does not know run {run_id}, of which rounds wait; allowed: the store that it was started with"
        gone = f", or none, after deleting {outbox.folder}, if the run was deleted there for good"
        raise InputError("--tracking-uri", public(client.tracking_uri), why + gone) from None
    with locks.writing(client, run_id):
        stored = reading.read_run(client, run_id)
        if is_code(stored.settings.dataset):
            go_on = f"lt run --resume {run_id} --dataset {stored.settings.dataset}"
            raise InputError(
                "RUN", run_id, f"has a data set that is code, which `lt sync` does not run; allowed: {go_on}"
            )
        images, info = None, stored.data
        if stored.kind != OWN_LOOP:
            images = load_images(stored.settings.dataset, digest=info.digest if info else None)
            info = info or describe(images, stored.settings.validation_size, stored.settings.normalise)
        reopened = replace(stored, children=stored.children | stored.lost)  # none is made anew
        tracker = Tracker.reopen(client, reopened, images, info)
        here = [record for record in tracker.about.records if (record.arm, record.seed) not in stored.lost]
        tracker.about = replace(tracker.about, records=here)
        if not (finished := tracker.outbox.trained):
            tracker.stop("KILLED")
            tracker.outbox.remove()
        else:
            with tracker.ending_well():
                verdict, _ = conclude(tracker)
            finished = not more_seeds(stored, verdict)
    kind = "train" if stored.origin else stored.kind
    return Synced(run_id, stored.name, kind, code_flags(stored.settings), finished, tuple(tracker.refused))
