"""`python -m lottery_ticket` is `lt`."""

from lottery_ticket.cli import main

main()
