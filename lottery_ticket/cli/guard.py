"""Whom the UIs answer: requests to exactly the addresses they are served at, and no page of another origin.

A page that the user has open can send requests to this machine, and, where its name is made to mean 127.0.0.1, read the
answers (DNS rebinding). It cannot choose which `Host` and `Origin` its browser sends with them.
"""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

REACHED = "SERVER_ADDR"
"""In WSGI's environment, the address of this machine at which a request came in."""

_SAFE = (("X-Frame-Options", "SAMEORIGIN"), ("X-Content-Type-Options", "nosniff"))


@dataclass(frozen=True)
class Guard:
    """What is served where.

    Attributes:
        host, port: listened on; 0.0.0.0 is every address of this machine.
        more: hosts as patterns, `lab.example:5000`, that are served as well, by a proxy say.
    """

    host: str
    port: int
    more: tuple[str, ...] = ()

    @classmethod
    def of(cls, host: str, port: int) -> "Guard":
        """Of an address, and of the hosts that MLflow's own variable for it lists."""
        listed = os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS", "").lower().split(",")
        return cls(host, port, tuple(filter(None, map(str.strip, listed))))

    def refusal(self, hosts: Sequence[str], origins: Sequence[str], reached: str) -> str:
        """Why a request is not answered; empty where it is.

        Args:
            hosts, origins: its headers of these names.
            reached: the address of this machine at which it came in.
        """
        if len(hosts) != 1 or not self._serves(hosts[0].lower(), reached):
            return "This is not served under that name."
        for origin in origins:
            scheme, _, host = origin.lower().partition("://")
            if scheme not in ("http", "https") or not self._serves(host, reached):
                return "Pages from elsewhere are not answered."
        return ""

    def _serves(self, host: str, reached: str) -> bool:
        names = {reached}
        if ipaddress.ip_address(reached).is_loopback:
            names.add("localhost")
        if not ipaddress.ip_address(self.host).is_loopback:
            names.add(socket.gethostname().lower())
        served = {f"{name}:{self.port}" for name in names} | (names if self.port == 80 else set())
        return host in served or any(fnmatchcase(host, pattern) for pattern in self.more)

    def asgi(self, app: Any) -> Any:
        """An ASGI application behind the guard. It is not told the origin, which is its own."""

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            headers = scope["headers"]
            named = {name: [value.decode("latin-1") for key, value in headers if key == name] for name in _NAMES}
            why = self.refusal(named[b"host"], named[b"origin"], scope["server"][0])
            if why:
                await send(
                    {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]}
                )
                await send({"type": "http.response.body", "body": why.encode()})
            else:
                own = [(key, value) for key, value in headers if key != b"origin"]
                await app(scope | {"headers": own}, receive, send)

        return guarded

    def wsgi(self, app: Any) -> Any:
        """A WSGI application behind the guard, whose pages no other page may frame."""

        def guarded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            hosts, origins = ([environ[key]] if key in environ else [] for key in ("HTTP_HOST", "HTTP_ORIGIN"))
            if why := self.refusal(hosts, origins, environ[REACHED]):
                start("403 Forbidden", [("Content-Type", "text/plain")])
                return [why.encode()]
            return app(environ, lambda status, headers, *more: start(status, [*headers, *_SAFE], *more))

        return guarded


_NAMES = (b"host", b"origin")
