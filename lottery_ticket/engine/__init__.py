"""TODO lottery_ticket.engine."""
