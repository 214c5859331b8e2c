"""TODO lottery_ticket.store.connection."""
