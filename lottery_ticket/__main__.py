"""`python -m lottery_ticket` is `lt`."""

import os
import sys

if not sys.flags.safe_path:  # Python puts the current folder before all that is installed
    first = sys.path.pop(0)
    if first == os.path.dirname(os.path.dirname(__file__)):  # where this package is
        sys.path.append(first)

from lottery_ticket.cli import main

main()
