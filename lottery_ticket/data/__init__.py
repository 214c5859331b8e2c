"""TODO lottery_ticket.data.prepared."""
