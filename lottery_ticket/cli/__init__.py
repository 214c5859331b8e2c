"""The command `lt`: thin Typer commands over the package; every error of the user is one line and exit 2."""

import atexit
import gc
import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from lottery_ticket import terminal
from lottery_ticket.address import public
from lottery_ticket.cli.commands import Commands
from lottery_ticket.errors import InputError, LotteryTicketError, one_line
from lottery_ticket.version import __version__

app = typer.Typer(
    name="lt",
    cls=Commands,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    """Find winning tickets, prove that they win, and hand them on."""
    if version:
        typer.echo(f"lt {__version__}")
        raise typer.Exit


def main() -> None:
    """Run `lt` and exit: 0 done, 1 failed while working, 2 wrong input, 128 + N ended by signal N (130: Ctrl-C)."""
    atexit.register(gc.freeze)  # nothing is searched for garbage on the way out: over a second with torch and MLflow
    set_environment()
    output = terminal.settle()
    received = terminal.end_on_signals()
    code = _run()
    sys.stdout.flush()
    if output.failure and not code:
        code = _fail(f"standard output cannot be written: {output.failure.strerror}", 1)
    sys.exit(128 + received[0] if received and code == 130 else code)


def set_environment() -> None:
    """What torch and MLflow read as they are imported."""
    # Threads that wait by spinning bring each other to a halt when two processes share the cores (bench/README.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # A server that does not answer is asked again by those who wait for it, not for minutes by each request.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # its errors with traceback are told in a line here
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


def _run() -> int:
    try:
        return app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except InputError as error:
        return _fail(str(error), 2)
    except LotteryTicketError as error:
        return _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        from lottery_ticket import waiting

        waiting.end()
        return 130
    except typer.Exit as ended:
        return ended.exit_code
    except TyperException as error:  # an unknown option, a missing argument
        return _fail(f"{error.format_message()} See lt --help.", 2)
    except Exception as error:
        if os.environ.get("LT_TRACEBACK"):
            raise
        return _fail(f"failed: {one_line(error)} (LT_TRACEBACK=1 shows where)", 1)


def _fail(message: str, code: int) -> int:
    print(f"lt: {' '.join(map(public, terminal.plain(message).split()))}", file=sys.stderr)
    return code
