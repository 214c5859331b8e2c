"""Where a store's artifacts may be: in the store itself, or where its user has said that they are.

A store says of each run where its artifacts are, and a stranger's store may say anything: a host that asks for a
password, a folder that is not the store's.
"""

import os
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.file_utils import get_local_path_or_none

from lottery_ticket.address import artifacts_of, public, sqlite_file
from lottery_ticket.errors import InputError, LotteryTicketError
from lottery_ticket.store import patience

NAMED = "LT_ARTIFACTS"
"""The variable that lists further places, separated by commas: folders, or beginnings of addresses."""


def allowed(place: str, tracking_uri: str) -> str:
    """The place of artifacts, in a store with this address; InputError where the store may not have them there.

    Another HTTP server that the user has named is not told the password of the tracking server.
    """
    local = get_local_path_or_none(place)
    named = [each.strip() for each in os.environ.get(NAMED, "").split(",") if each.strip()]
    if local is not None:
        folders = [*_folders(tracking_uri), *filter(None, map(get_local_path_or_none, named))]
        if any(Path(local).resolve().is_relative_to(Path(folder).resolve()) for folder in folders):
            return place
    elif _on_server(place, tracking_uri):
        return place
    elif any(_begins(place, each) for each in named):
        patience.tell_no_password(urlsplit(place).netloc.rpartition("@")[2])
        return place
    why = f"has artifacts at {public(place)!r}, outside of the store"
    raise InputError(
        "--tracking-uri", public(tracking_uri), f"{why}; allowed: its own server or folder, or what {NAMED} lists"
    )


def repository(place: str, tracking_uri: str) -> ArtifactRepository:
    """What reads and writes artifacts at a place that is allowed."""
    if get_local_path_or_none(place) is not None:
        return _Local(place, tracking_uri=tracking_uri)
    return get_artifact_repository(place, tracking_uri=tracking_uri)


class _Local(LocalArtifactRepository):
    """A folder that another may have filled: links lead nowhere else, and no file is copied that is too large."""

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        root = Path(self.artifact_dir).resolve()
        for path in Path(local_dir).rglob("*"):
            there = root / (artifact_path or "") / path.relative_to(local_dir)
            if not there.resolve().is_relative_to(root):
                raise LotteryTicketError(f"{there} is a link out of the folder of the run's artifacts")
        super().log_artifacts(local_dir, artifact_path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        path = Path(self.artifact_dir, remote_file_path)
        most = patience.largest(remote_file_path)
        if path.exists() and (length := path.stat().st_size) > most:
            raise LotteryTicketError(f"it is {length:,} bytes long; allowed: at most {most:,}")
        super()._download_file(remote_file_path, local_path)


def _folders(tracking_uri: str) -> list[Path | str]:
    """The folders in which a store that is no server keeps artifacts."""
    if file := sqlite_file(tracking_uri):
        ours = artifacts_of(file)
        return [ours, *([ours.parent] if ours.parent.name == "mlruns" else [ours.parent / "mlruns"])]
    scheme = urlsplit(tracking_uri).scheme
    if (local := get_local_path_or_none(tracking_uri)) is not None:
        return [local]
    return [] if scheme in ("http", "https") else [Path("mlruns")]  # of a database server, made by whoever runs


def _on_server(place: str, tracking_uri: str) -> bool:
    """Whether a place is on the tracking server."""
    server, asked = urlsplit(tracking_uri), urlsplit(place)
    if server.scheme not in ("http", "https") or asked.scheme not in (server.scheme, "mlflow-artifacts"):
        return False
    if asked.scheme == "mlflow-artifacts" and not asked.netloc:
        return True
    return _host(asked, server.scheme) == _host(server, server.scheme)


def _host(address: SplitResult, scheme: str) -> tuple[str | None, int | None] | None:
    """Host and port; None where there may be two minds about which these are."""
    try:
        port = address.port or {"http": 80, "https": 443}[scheme]
    except ValueError:
        return None
    odd = "\\" in address.netloc or not address.netloc.isprintable() or " " in address.netloc
    return None if odd else (address.hostname, port)


def _begins(place: str, named: str) -> bool:
    """Whether a place is at an address or below it."""
    below = place.startswith(f"{named.rstrip('/')}/") or place == named
    return below and ".." not in urlsplit(place).path.split("/") and "\\" not in place and "%2e" not in place.lower()
