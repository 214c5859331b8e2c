"""TODO lottery_ticket.runs."""
