"""The addresses of MLflow's store and of Optuna's storage, and where their files are; needs neither."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

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


def public(url: str) -> str:
    """The URL as it may be shown: with `***` for passwords, and a SQLite store's path as the file system has it."""
    if "%" in url and (file := sqlite_file(url)):
        return f"{SQLITE}{file}"
    url = re.sub(r"(://[^/:@]*:).*@", r"\1***@", url)
    return re.sub(r"([?&][^=&]*(?:pass|pwd)[^=&]*=)[^&]*", r"\1***", url, flags=re.IGNORECASE)


def without_credentials(uri: str) -> str:
    """A store's address without the user and password in it, as a ticket keeps it."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else uri
