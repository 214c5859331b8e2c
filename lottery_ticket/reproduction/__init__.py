"""TODO lottery_ticket.reproduction.definition."""
