"""Imported once by the process that `lt` is forked from (tests/help/launcher.py)."""

import gc

from lottery_ticket import cli

cli.set_environment()

import mlflow  # noqa: E402, F401
import torch  # noqa: E402
import torch._dynamo  # noqa: E402, F401  (what looks through a network imports it, for a second)

import lottery_ticket.analysis.compare  # noqa: E402
import lottery_ticket.runs.retrain  # noqa: E402
import lottery_ticket.runs.run  # noqa: E402
import lottery_ticket.store.model_registry  # noqa: E402
import lottery_ticket.study.sweep  # noqa: E402, F401
from lottery_ticket.analysis import plots  # noqa: E402
from tests.help import stores  # noqa: E402

stores.prepare()
plots.STYLE |= {"figure.dpi": 50, "savefig.bbox": None}  # fewer pixels, sooner there
gc.freeze()  # nor need every process walk through all this
