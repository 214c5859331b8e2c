"""A further process of `lt sweep --jobs`, told its words over standard input: arguments could be seen by anybody."""

import json
import sys

from lottery_ticket.cli import main

if __name__ == "__main__":
    sys.argv = ["lt", *json.loads(sys.stdin.readline())]
    main()
