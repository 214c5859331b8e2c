"""Starts `lt` in real processes that are forked from one that has torch and MLflow imported: seconds less for each."""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from lottery_ticket import cli

Before = Callable[[], None] | None

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.help.preloaded"])


class Started:
    """A running `lt`, with what tests use of `subprocess.Popen`; `stderr` can be read while it runs.

    `before` is called in the process, before anything else.
    """

    def __init__(
        self,
        arguments: list[str],
        cwd: Path,
        environment: dict[str, str],
        before: Before = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.out, err = Path(self._folder.name, "out"), Path(self._folder.name, "err")
        os.mkfifo(err)
        self._process = _context.Process(target=_command, args=(arguments, cwd, environment, self.out, err, before))
        self._process.start()
        self.stderr: TextIO = err.open(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def ends_within(self, seconds: float) -> bool:
        """Wait as long at most; whether it has ended by itself."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def send_signal(self, which: signal.Signals) -> None:
        os.kill(self.pid, which)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"lt takes more than {timeout} s")
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it wrote on standard output, and the rest of what it wrote on standard error, once it has ended."""
        impatient = threading.Timer(timeout or 300, self._process.kill)
        impatient.start()
        err = self.stderr.read()
        self.wait(timeout)
        impatient.cancel()
        self.stderr.close()
        out = self.out.read_text(errors="replace")
        self._folder.cleanup()
        return out, err


def run(
    arguments: list[str], cwd: Path, environment: dict[str, str], timeout: float, before: Before = None
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `lt ARGUMENTS`."""
    started = Started(arguments, cwd, environment, before)
    out, err = started.communicate(timeout)
    return started.returncode, out, err


def _command(
    arguments: list[str],
    cwd: Path,
    environment: dict[str, str],
    out: Path,
    err: Path,
    before: Before,
) -> None:
    flags = os.O_WRONLY | os.O_CREAT
    for number, (path, how) in enumerate(((Path(os.devnull), os.O_RDONLY), (out, flags), (err, flags))):
        os.dup2(os.open(path, how, 0o600), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stderr.reconfigure(line_buffering=True)
    sys.argv = ["lt", *arguments]
    if before:
        before()
    cli.main()
