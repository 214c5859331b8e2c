"""Guests of the lottery-ticket lab, one of each kind."""
