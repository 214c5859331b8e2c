"""`lt ui`: MLflow's UI on the right store, opened at the accuracy curves; or Optuna's dashboard on the studies."""

import ipaddress
import os
import socket
import warnings
from socketserver import ThreadingMixIn
from typing import Annotated, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import typer

from lottery_ticket.cli.guard import REACHED, Guard
from lottery_ticket.cli.options import TrackingUri
from lottery_ticket.cli.say import say
from lottery_ticket.errors import InputError


def ui(
    experiment: Annotated[str, typer.Option("--experiment", help="MLflow experiment.")] = "lottery-ticket",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            help="Port to listen on. Default: the first free from 5000, with --optuna from 8080.",
            show_default=False,
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
    optuna: Annotated[bool, typer.Option("--optuna", help="Show the studies in Optuna's dashboard instead.")] = False,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="Optuna storage; default: SQLite at mlruns/optuna.db.", show_default=False),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--unprotected-host",
            help="Address to listen on. No password is asked: whoever reaches it may read, change and delete all runs.",
        ),
    ] = "127.0.0.1",
) -> None:
    """Start MLflow's UI, or Optuna's dashboard, on this machine and print the address of the curves or the studies."""
    if not _can_listen(host, 0):
        allowed = "allowed: an IPv4 address of this machine, or 0.0.0.0 for all of them"
        raise InputError("--unprotected-host", host, f"cannot be listened on; {allowed}")
    if port is not None and not (1 <= port <= 65535 and _can_listen(host, port)):
        raise InputError("--port", port, "cannot be listened on; allowed: a free port from 1 to 65535")
    if optuna and tracking_uri:
        raise InputError("--tracking-uri", tracking_uri, "is for MLflow's UI; allowed: without --optuna")
    if optuna:
        _show_studies(storage, host, port)
    elif storage:
        from lottery_ticket.address import public

        raise InputError("--storage", public(storage), "is for Optuna's dashboard; allowed: with --optuna")
    else:
        _show_runs(experiment, tracking_uri, host, port)


def _show_runs(experiment: str, tracking_uri: str | None, host: str, port: int | None) -> None:
    from lottery_ticket.address import public
    from lottery_ticket.store import reach

    reach.must_be_usable(tracking_uri, create=False)

    from lottery_ticket.store import connection
    from lottery_ticket.store.chart_view import QUERY

    client = connection.connect(tracking_uri, create=False)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = ", ".join(each.name for each in client.search_experiments())
        raise InputError("--experiment", experiment, f"is not in {public(client.tracking_uri)}; allowed: {known}")
    page = f"/#/experiments/{connection.ensure_experiment(client, experiment)}/runs?{QUERY}"
    if client.tracking_uri.startswith("http"):
        say(f"The tracking server shows it at {public(client.tracking_uri).rstrip('/')}{page}")
        return
    guard = Guard.of(host, port or _free_from(host, 5000))
    app = _mlflow(client.tracking_uri)
    with socket.create_server((host, guard.port)) as listening:
        _tell(f"MLflow's UI: http://{host}:{guard.port}{page}", host)
        _serve(guard.asgi(app), listening)


def _mlflow(tracking_uri: str) -> Any:
    """MLflow's server on a store, to be served by this process, so that no arguments of another hold a password."""
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = "*"  # which is read as it is imported; the guard has looked

    from mlflow.server import constants

    from lottery_ticket.address import artifact_root

    root = artifact_root(tracking_uri)
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: tracking_uri,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: root.as_uri() if root else "./mlartifacts",
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what MLflow itself imports
        from mlflow.server.fastapi_app import app

    return app


def _serve(app: Any, listening: socket.socket) -> None:
    """Answer what comes in at a socket, until a signal ends it."""
    import uvicorn

    config = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _show_studies(storage: str | None, host: str, port: int | None) -> None:
    try:
        import optuna_dashboard
    except ModuleNotFoundError as error:
        why = f"needs the package {error.name}; allowed: after pip install 'lottery-ticket-lab[dashboard]'"
        raise InputError("--optuna", True, why) from None

    from lottery_ticket.study.storage import open_storage

    dashboard = optuna_dashboard.wsgi(open_storage(storage, create=False))
    guard = Guard.of(host, port or _free_from(host, 8080))
    with make_server(host, guard.port, guard.wsgi(dashboard), _Server, _Quiet) as server:
        _tell(f"Optuna's dashboard: http://{host}:{server.server_port}/dashboard", host)
        server.serve_forever()


class _Server(ThreadingMixIn, WSGIServer):
    """Answers requests side by side and, as it ends, waits for none."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Writes no line per request, and says where it came in."""

    def get_environ(self) -> Any:
        return super().get_environ() | {REACHED: self.connection.getsockname()[0]}

    def log_message(self, *_: object) -> None:
        pass


def _tell(address: str, host: str) -> None:
    say(address)
    if host != "127.0.0.1":
        say(
            "No password is asked: whoever reaches this address can read, change and delete everything. It is answered "
            "under this machine's addresses and name, and under the hosts that MLFLOW_SERVER_ALLOWED_HOSTS lists.",
            err=True,
        )
    say("Ctrl-C ends it.", err=True)


def _free_from(host: str, first: int) -> int:
    return next(port for port in range(first, 65536) if _can_listen(host, port))


def _can_listen(host: str, port: int) -> bool:
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return False
    if address.is_multicast or address.is_reserved:
        return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True
