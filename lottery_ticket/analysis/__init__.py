"""TODO lottery_ticket.analysis."""
