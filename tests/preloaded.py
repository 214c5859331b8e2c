"""Imported once by the process that `lt` is forked from (tests/launcher.py)."""

from lottery_ticket import cli

cli.set_environment()

import mlflow  # noqa: E402, F401
import torch  # noqa: E402, F401

import lottery_ticket.compare  # noqa: E402
import lottery_ticket.experiment  # noqa: E402
import lottery_ticket.registry  # noqa: E402
import lottery_ticket.retrain  # noqa: E402
import lottery_ticket.sweep  # noqa: E402, F401
from tests import stores  # noqa: E402

stores.prepare()
