"""Terminals come and go: output that nobody reads is dropped, other encodings are met, signals end a command well."""

import errno
import io
import os
import re
import select
import signal
import stat
import sys
import time
from typing import Any

_ONE_REQUEST = 10
"""Seconds within which a further signal asks for the same: a shell that ends sends SIGHUP twice, systemd two kinds."""

_ODD = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ud800-\\udfff"
    "\\U000e0000-\\U000e007f]"
)
"""What moves a cursor, sets colours and titles, makes links, turns the direction of a text, or cannot be seen."""


def plain(text: str) -> str:
    """A text of which each character can be seen, but for line feeds and tabs; others become `�`."""
    return _ODD.sub("�", text)


class Output(io.FileIO):
    """A standard stream's file descriptor, on which writing never fails.

    Attributes:
        failure: why what was written is not there although it leads to somebody (a full disk, say); None in general.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write what the descriptor takes; from the first failure on all is dropped."""
        try:
            while (written := super().write(data)) is None:  # another program made it non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            if not self._deserted(error):
                self.failure = error
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # for processes started from here, too
            os.close(nowhere)
            return len(data)

    def _deserted(self, error: OSError) -> bool:
        """Whether nobody reads any more: a pipe or socket was closed, or a terminal is gone."""
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            return True
        return error.errno == errno.EIO and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)


def settle() -> Output:
    """Make standard output and error such that no `print` fails, and give back the former's descriptor.

    What its encoding has no sign for is written as a question mark. Streams that were closed by the caller lead
    nowhere: else the first file opened, a database perhaps, would be taken for one.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    outputs = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        outputs.append(Output(number, "w", closefd=False))
        if before:
            before.flush()
        made = io.TextIOWrapper(
            io.BufferedWriter(outputs[-1]),
            encoding=before.encoding if before else "utf-8",
            errors="replace",
            line_buffering=not before or before.line_buffering or before.write_through,
        )
        setattr(sys, name, made)
    return outputs[0]


def end_on_signals() -> list[int]:
    """From now on SIGTERM and SIGHUP end this process as Ctrl-C does; those received are appended to the list.

    A signal that is ignored (SIGHUP after `nohup`) stays so.
    """
    received: list[int] = []
    last = 0.0

    def interrupt(number: int, _: object) -> None:
        nonlocal last
        if received and time.monotonic() - last < _ONE_REQUEST:
            return
        received.append(number)
        last = time.monotonic()
        raise KeyboardInterrupt

    for which in _ending():
        if signal.getsignal(which) is not signal.SIG_IGN:
            signal.signal(which, interrupt)
    return received


def leave_signals_to_caller() -> None:
    """Ignore the signals that end a command: this process ends when its caller does."""
    for which in (signal.SIGINT, *_ending()):
        signal.signal(which, signal.SIG_IGN)


def _ending() -> list[signal.Signals]:
    """SIGTERM and, where there is one, SIGHUP."""
    return [signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__]
