"""`--jobs N` of `lt sweep`: further processes of the same command, which work on the same study."""

import os
import signal
import subprocess
import sys
import threading
from types import TracebackType

import torch

from lottery_ticket.errors import LotteryTicketError

_PATIENCE = 60  # seconds to leave their trials


class Companions:
    """N − 1 further processes of this command; a context manager, at whose end they end as well.

    They end by themselves when the study has nothing left, and leave their trials to be tried again when this process
    ends before, whatever ended it: they notice the end of their standard input.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Companions":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said = []
        for process in self._processes:
            try:
                said.append(process.communicate("" if error else None, timeout=_PATIENCE)[1])
            except subprocess.TimeoutExpired:
                process.kill()
        failed = [process.returncode for process in self._processes if process.returncode]
        if failed and not error:
            raise LotteryTicketError(f"a process of --jobs failed: {' '.join(said).strip() or failed}")

    def start(self) -> None:
        """Start them; the study is there."""
        if self._jobs == 1:
            return
        threads = max(1, torch.get_num_threads() // self._jobs)
        torch.set_num_threads(threads)
        for _ in range(self._jobs - 1):
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "lottery_ticket", *_without(sys.argv[1:]), "--worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                    start_new_session=True,  # Ctrl-C is for this process, which ends them
                )
            )


def end_with_caller() -> None:
    """Leave this process's trials, as after Ctrl-C, when its standard input ends."""

    def watch() -> None:
        sys.stdin.read()
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, name="caller", daemon=True).start()


def _without(arguments: list[str]) -> list[str]:
    """The command's arguments without those that are for the first process alone."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--jobs":
            skip = True
        elif argument not in ("--fresh", "--json") and not argument.startswith("--jobs="):
            kept.append(argument)
    return kept
