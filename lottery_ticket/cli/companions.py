"""`--jobs N` of `lt sweep`: further processes of the same command, which work on the same study."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import IO

import torch

from lottery_ticket import here, terminal
from lottery_ticket.errors import LotteryTicketError

_PATIENCE = 60  # seconds to leave their trials


class Companions:
    """N − 1 further processes of this command; a context manager, at whose end they end as well.

    They end by themselves when the study has nothing left, and leave their trials to be tried again when this process
    ends before, whatever ended it: they notice the end of their standard input.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._processes: list[tuple[subprocess.Popen[str], IO[str]]] = []

    def __enter__(self) -> "Companions":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, _ in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process, _ in self._processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()

    def wait(self) -> None:
        """Until they have ended by themselves; LotteryTicketError if one failed."""
        for process, said in self._processes:
            if process.wait():
                said.seek(0)
                raise LotteryTicketError(f"a process of --jobs failed: {said.read().strip() or process.returncode}")

    def start(self) -> None:
        """Start them; the study is there."""
        if self._jobs == 1:
            return
        threads = max(1, torch.get_num_threads() // self._jobs)
        torch.set_num_threads(threads)
        for _ in range(self._jobs - 1):
            said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 – it is read when the process has ended
            process = subprocess.Popen(
                here.python("lottery_ticket.cli.companion"),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                text=True,
                env=here.environment(OMP_NUM_THREADS=str(threads)),
                start_new_session=True,  # Ctrl-C is for this process, which ends them
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps([*_without(sys.argv[1:]), "--worker"]) + "\n")
            process.stdin.flush()
            self._processes.append((process, said))


def end_with_caller() -> None:
    """Leave this process's trials, as after Ctrl-C, when its standard input ends."""

    def watch() -> None:
        sys.stdin.read()
        signal.raise_signal(signal.SIGINT)

    terminal.leave_signals_to_caller()
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
