"""What of a command's words is wrong, as far as it can be told before torch or MLflow is imported."""

from pathlib import Path


def check_ticket(reference: str, tracking_uri: str | None, option: str = "TICKET") -> None:
    """InputError where the folder or the run of a ticket is not there, or its store cannot be read."""
    from lottery_ticket.store import reach
    from lottery_ticket.tickets.reference import RUN, in_store, must_be_folder

    if not in_store(reference):
        must_be_folder(Path(reference), option)
    elif run := RUN.fullmatch(reference):
        reach.must_know(run[1], option, tracking_uri)
    else:
        reach.must_be_usable(tracking_uri, create=False)
