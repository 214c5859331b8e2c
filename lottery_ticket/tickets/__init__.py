"""TODO lottery_ticket.tickets."""
