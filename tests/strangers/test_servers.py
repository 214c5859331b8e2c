"""A tracking server that never finishes an answer, or never stops answering: real sockets, bounded time and memory."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.store import connection
from tests.conftest import environment

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
HEALTHY = HEAD + b"Content-Length: 2\r\n\r\nOK"


def drip(there: socket.socket) -> None:
    """A byte of a body ten times a second."""
    there.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        there.sendall(b" ")
        time.sleep(0.1)


def drip_headers(there: socket.socket) -> None:
    """A byte of a header ten times a second."""
    there.sendall(HEAD + b"X: ")
    while True:
        there.sendall(b"x")
        time.sleep(0.1)


def endless(there: socket.socket) -> None:
    """A body without an end."""
    there.sendall(HEAD + b"\r\n")
    while True:
        there.sendall(b" " * 2**16)


def pages(there: socket.socket) -> None:
    """Page after page, each with a token for the next."""
    body = b'{"runs": [], "experiments": [], "next_page_token": "more"}'
    there.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)


@contextmanager
def serving(answer, healthy: bool) -> Iterator[tuple[str, threading.Event]]:
    """The address of a server that answers so, `/health` too unless healthy; and whether it was asked anything else."""
    listening = socket.create_server(("127.0.0.1", 0))
    asked = threading.Event()

    def serve(there: socket.socket) -> None:
        with there, suppress(OSError, IndexError):
            request = there.recv(2**16)
            if healthy and request.split()[1] == b"/health":
                there.sendall(HEALTHY)
            else:
                asked.set()
                answer(there)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    with listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "healthy", "why"),
    [
        (drip, False, "cannot be reached .ReadTimeout: "),
        (drip_headers, False, "cannot be reached .ReadTimeout: "),
        (endless, False, "answers with over 67,108,864 bytes"),
        (drip, True, "cannot be used .*does not answer"),
        (endless, True, "answers with over 67,108,864 bytes"),
    ],
)
def test_the_start_ends_within_ten_seconds(answer, healthy, why):
    begun = time.monotonic()
    with serving(answer, healthy) as (uri, _), pytest.raises(InputError, match=why):
        connection.connect(uri, create=False)
    assert time.monotonic() - begun < 10


def test_pages_without_end_are_not_read():
    with serving(pages, True) as (uri, _):
        client = connection.connect(uri, create=False)
        with pytest.raises(LotteryTicketError, match="gives over 200 pages of runs; allowed: at most that"):
            connection.search(client, ["0"], "")


@pytest.mark.slow
def test_control_c_is_heard_while_a_server_drips(tmp_path):
    with serving(drip, True) as (uri, asked):
        command = [sys.executable, "-m", "lottery_ticket", "tickets", "--tracking-uri", uri]
        with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE) as process:
            assert asked.wait(60)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130  # and not 2, as where the server took too long
            assert b"Traceback" not in process.stderr.read()
