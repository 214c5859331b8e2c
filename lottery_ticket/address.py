"""The addresses of MLflow's store and of Optuna's storage, and where their files are; needs neither."""

import os
import re
from pathlib import Path

DEFAULT_STORE = "sqlite:///mlruns/mlflow.db"
DEFAULT_STORAGE = "sqlite:///mlruns/optuna.db"


def tracking_uri(given: str | None = None) -> str:
    """The store's URI: as given, else MLFLOW_TRACKING_URI, else SQLite at mlruns/mlflow.db."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, None for any other."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def artifact_root(uri: str) -> Path | None:
    """Where a SQLite store keeps its artifacts: `artifacts` beside the file; None where a server decides."""
    file = sqlite_file(uri)
    return file.parent.resolve() / "artifacts" if file else None


def public(url: str) -> str:
    """The URL as it may be shown: with `***` for passwords."""
    url = re.sub(r"(://[^/:@]*:).*@", r"\1***@", url)
    return re.sub(r"([?&][^=&]*(?:pass|pwd)[^=&]*=)[^&]*", r"\1***", url, flags=re.IGNORECASE)
