"""How long a tracking server may take for an answer as a whole, how much it may say, and who is told no password.

The timeout of an HTTP request holds for each read of its socket: a server that sends a byte now and then is waited for
for ever, and one that goes on sending fills the memory.
"""

import tempfile
import time
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow.utils.request_utils import TCPKeepAliveHTTPAdapter
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from lottery_ticket import waiting
from lottery_ticket.errors import LotteryTicketError
from lottery_ticket.tickets.files import MOST_BYTES as MOST_OF_TENSORS

MOST_BYTES = 2**26
"""Of an answer that is JSON; a page of a thousand runs with a hundred params each has a tenth."""

_SLOWEST = 100_000
"""Bytes a second that are waited for beyond a request's timeout, sent or received."""

_CHUNK = 2**16
_plain_send = TCPKeepAliveHTTPAdapter.send
_told_no_password: set[str] = set()


def set_limits() -> None:
    """From now on they hold for MLflow's requests in this process."""
    TCPKeepAliveHTTPAdapter.send = _send


def largest(path: str) -> int:
    """Bytes that an artifact of this path may have."""
    return MOST_BYTES if path.endswith(".json") else MOST_OF_TENSORS


def tell_no_password(server: str) -> None:
    """From now on MLflow sends this server, as `host:port`, no user, password or token of its variables."""
    _told_no_password.add(server)


def session() -> requests.Session:
    """For requests of our own, which are not tried again."""
    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, TCPKeepAliveHTTPAdapter())
    return made


def _send(
    self: HTTPAdapter, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, **more: Any
) -> requests.Response:
    """Send a request and read all of the answer; requests.ReadTimeout and LotteryTicketError beyond the limits."""
    seconds = timeout if isinstance(timeout, int | float) else 30
    if self.max_retries.total:
        seconds *= 1.5  # a second try, once the first took as long as it may
    sent = int(request.headers.get("Content-Length") or 0)
    asked = urlsplit(request.url or "")
    allowed = largest(asked.path) if stream else MOST_BYTES
    if asked.netloc.rpartition("@")[2] in _told_no_password:
        request.headers.pop("Authorization", None)
    begun, received = time.monotonic(), 0
    over = False

    def late() -> bool:
        nonlocal over
        over = over or time.monotonic() - begun > seconds + (sent + received) / _SLOWEST
        return over

    def answer() -> requests.Response:
        nonlocal received
        response = _plain_send(self, request, stream=True, timeout=timeout, **more)
        body = tempfile.SpooledTemporaryFile(max_size=MOST_BYTES)  # noqa: SIM115 – the response closes it
        with response.raw as raw:
            while piece := raw.read1(_CHUNK, decode_content=True):
                received += len(piece)
                if received > allowed:
                    raise LotteryTicketError(f"the server answers with over {allowed:,} bytes; allowed: at most that")
                if late():
                    raise TimeoutError("is waited for no longer")
                body.write(piece)
            headers = {key: value for key, value in raw.headers.items() if key.lower() != "content-encoding"}
        body.seek(0)
        response.raw = HTTPResponse(
            body, headers, raw.status, raw.version, reason=raw.reason, preload_content=False, request_url=request.url
        )
        return response

    try:
        return waiting.until(late, answer)
    except TimeoutError:
        raise requests.ReadTimeout("no whole answer in time", request=request) from None
