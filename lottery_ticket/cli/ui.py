"""`lt ui`: MLflow's UI on the right store, opened at the accuracy curves."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Annotated

import typer

from lottery_ticket.cli.options import TrackingUri
from lottery_ticket.errors import InputError, LotteryTicketError

_HOST = "127.0.0.1"
_PATIENCE = 120  # seconds for the server to answer


def ui(
    experiment: Annotated[str, typer.Option("--experiment", help="MLflow experiment.")] = "lottery-ticket",
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port to listen on. Default: the first free from 5000.", show_default=False),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Start MLflow's UI on 127.0.0.1 and print the address that shows the accuracy curves."""
    if port is not None and not (1 <= port <= 65535 and _free(port)):
        raise InputError("--port", port, "cannot be listened on; allowed: a free port from 1 to 65535")

    from lottery_ticket import store
    from lottery_ticket.address import artifact_root
    from lottery_ticket.view import QUERY

    client = store.connect(tracking_uri, create=False)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = ", ".join(each.name for each in client.search_experiments())
        raise InputError("--experiment", experiment, f"is not in {client.tracking_uri}; allowed: {known}")
    page = f"/#/experiments/{store.ensure_experiment(client, experiment)}/runs?{QUERY}"
    if client.tracking_uri.startswith("http"):
        typer.echo(f"The tracking server shows it at {client.tracking_uri.rstrip('/')}{page}")
        return
    port = port or next(candidate for candidate in range(5000, 65536) if _free(candidate))
    address = f"http://{_HOST}:{port}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        _HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", client.tracking_uri]
    if root := artifact_root(client.tracking_uri):
        command += ["--artifacts-destination", root.as_uri()]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with this command
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(server, address)
        typer.echo(f"MLflow's UI: {address}{page}")
        typer.echo("Ctrl-C ends it.", err=True)
        server.wait()
    finally:
        server.terminate()
        server.wait()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _wait(server: subprocess.Popen, address: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise LotteryTicketError(f"mlflow server ended with exit status {server.returncode}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise LotteryTicketError(f"mlflow server did not answer at {address} within {_PATIENCE} s")
