"""TODO lottery_ticket.method."""
