"""Imported once by the process that `lt` is forked from (tests/launcher.py)."""

import gc

from lottery_ticket import cli

cli.set_environment()

import mlflow  # noqa: E402, F401
import torch._dynamo  # noqa: E402, F401  # takes a second, when torch is first asked what a network computes

import lottery_ticket.compare  # noqa: E402
import lottery_ticket.experiment  # noqa: E402
import lottery_ticket.registry  # noqa: E402
import lottery_ticket.retrain  # noqa: E402
import lottery_ticket.sweep  # noqa: E402, F401
from lottery_ticket import figures  # noqa: E402
from tests import stores  # noqa: E402

stores.prepare()
figures.STYLE |= {"figure.dpi": 50, "savefig.bbox": None}  # fewer pixels, sooner there
gc.freeze()  # nor need every process walk through all this
