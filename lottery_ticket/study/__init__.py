"""TODO lottery_ticket.study.definition."""
