"""The addresses of MLflow's store and of Optuna's storage, and where their files are; needs neither."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

DEFAULT_STORE = "sqlite:///mlruns/mlflow.db"
DEFAULT_STORAGE = "sqlite:///mlruns/optuna.db"
SQLITE = "sqlite:///"


def tracking_uri(given: str | None = None) -> str:
    """The store's URI: as given, else MLFLOW_TRACKING_URI, else SQLite at mlruns/mlflow.db."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, None for any other.

    What is there under the name as it is written is meant by it; else `%20` and the like are read as in any URL.
    """
    if not uri.startswith(SQLITE):
        return None
    written = Path(uri.removeprefix(SQLITE))
    return Path(unquote(str(written))) if _means_more(written, "%") else written


def has_options(uri: str) -> bool:
    """Whether what follows a `?` in a SQLite store's URI is no part of a name that is there."""
    return uri.startswith(SQLITE) and _means_more(Path(uri.removeprefix(SQLITE)), "?")


def _means_more(path: Path, character: str) -> bool:
    """Whether a path has the character, and nothing is there whose name has it."""
    first = next((each for each in [*reversed(path.parents), path] if character in each.name), None)
    return first is not None and not os.path.lexists(first)


def artifact_root(uri: str) -> Path | None:
    """Where a SQLite store keeps its artifacts: `artifacts` beside the file; None where a server decides."""
    file = sqlite_file(uri)
    return artifacts_of(file) if file else None


def artifacts_of(file: Path) -> Path:
    """Where a SQLite store with this file keeps its artifacts."""
    return file.parent.resolve() / "artifacts"


_USER = re.compile(
    r"(?P<scheme>[a-z][\w+.-]*)(?P<sep>(?::|%3a)(?://|%2f%2f))"
    r"(?:(?P<user>(?:(?!%3a|%40)[^/?#:@])*)(?P<password>(?::|%3a).*)?)(?P<at>@|%40)",
    re.IGNORECASE | re.DOTALL,
)
"""Whom an address names, up to the last @: a password may have a / or an @ in it."""

_QUERY = re.compile(
    r"(?P<key>(?:[?&;#]|%3f|%26|%23)[^=&?#;]*)(?P<is>=|%3d)(?:(?!&[\w.%-]+=).)*", re.IGNORECASE | re.DOTALL
)
_SECRET = re.compile(r"pass|pwd|\bpw\b|token|secret|key|sig|auth|cred|odbc_connect", re.IGNORECASE)
_LONGEST = 2000
"""Characters of a URL that are shown; looking for passwords takes the square of that."""

_SERVERS = ("http", "https", "mlflow-artifacts")
"""Kinds of addresses in which the user alone may be a token."""


def public(url: str) -> str:
    """The URL as it may be shown: `***` for passwords and tokens, a SQLite store's path as the file system has it."""
    if "%" in url and (file := sqlite_file(url)):
        return f"{SQLITE}{file}"
    shown = url if len(url) <= _LONGEST else f"{url[:_LONGEST]}…"
    return _QUERY.sub(_hidden_value, _USER.sub(_hidden_user, shown))


def without_credentials(uri: str) -> str:
    """A store's address without the user and password in it, as a ticket keeps it."""
    return _QUERY.sub(_hidden_value, _USER.sub(lambda told: f"{told['scheme']}{told['sep']}", uri))


def _hidden_user(told: re.Match[str]) -> str:
    if told["scheme"].lower() in _SERVERS:
        return f"{told['scheme']}{told['sep']}***{told['at']}"
    return f"{told['scheme']}{told['sep']}{told['user']}:***{told['at']}" if told["password"] else told[0]


def _hidden_value(told: re.Match[str]) -> str:
    return f"{told['key']}{told['is']}***" if _SECRET.search(unquote(told["key"])) else told[0]
