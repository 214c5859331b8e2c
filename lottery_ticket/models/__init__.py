"""TODO lottery_ticket.models.network."""
