"""New MLflow stores in a moment: its migrations run once a process, and what they made is copied."""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow.store.db.utils as mlflow_tables
from sqlalchemy import Engine, create_engine

_folder = tempfile.TemporaryDirectory()
_template = Path(_folder.name, "mlflow.db")
_make_tables: Callable[[Engine], None] = mlflow_tables._initialize_tables


def prepare() -> None:
    """Run the migrations, and let every new store of this process and those forked from it be a copy."""
    if not _template.exists():
        _make_tables(create_engine(f"sqlite:///{_template}"))
    mlflow_tables._initialize_tables = _copy_tables


def _copy_tables(engine: Engine) -> None:
    if engine.dialect.name != "sqlite" or not mlflow_tables._is_empty_database(engine):
        return _make_tables(engine)
    with closing(sqlite3.connect(_template)) as made, closing(sqlite3.connect(engine.url.database)) as new:
        made.backup(new)
