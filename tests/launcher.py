"""Starts `lt` in real processes that are forked from one that has torch and MLflow imported: seconds less for each."""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

from lottery_ticket import cli

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


def run(arguments: list[str], cwd: Path, environment: dict[str, str], timeout: float) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `lt ARGUMENTS`."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _context.Process(target=_command, args=(arguments, cwd, environment, out, err))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise TimeoutError(
                f"lt {' '.join(arguments)} takes more than {timeout} s:\n{out.read_text()}{err.read_text()}"
            )
        return process.exitcode, out.read_text(), err.read_text()


def _command(arguments: list[str], cwd: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    for number, path in enumerate((Path(os.devnull), out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    sys.argv = ["lt", *arguments]
    cli.main()
