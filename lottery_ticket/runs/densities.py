"""Densities of tensors that a ticket has, in the place of its name in the settings."""

from lottery_ticket.config import Settings
from lottery_ticket.errors import InputError


def with_densities(settings: Settings, tracking_uri: str | None = None) -> Settings:
    """The settings, their `tensor_densities` those of the tensors of the ticket that they name, where they name one.

    So a run tells what it did, whatever becomes of the ticket. InputError where there is none such.
    """
    told = settings.tensor_densities
    if told is None or "=" in told[0]:
        return settings
    from lottery_ticket.tickets.ticket import Ticket

    try:
        mask = Ticket.load(told[0], tracking_uri=tracking_uri, trained=False, check=False).mask
    except InputError as error:
        raise InputError("--tensor-densities", told[0], error.allowed) from error
    each = tuple(f"{name}={int(kept.sum()) / kept.numel()!r}" for name, kept in mask.items())
    return settings.model_copy(update={"tensor_densities": each})
