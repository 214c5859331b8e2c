"""What a run says of the machine and versions that made it."""

import os
import platform
import subprocess
from pathlib import Path

import torch

from lottery_ticket.version import __version__


def machine_tags(preset: str) -> dict[str, str]:
    """The tags of a run that say with what it is made: preset, versions, hardware, commit."""
    tags = {
        "lt.preset": preset,
        "lt.version": __version__,
        "lt.torch": torch.__version__,
        "lt.hardware": _hardware(),
    }
    if commit := _git_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags


def _hardware() -> str:
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join([f"{cpu} ({os.cpu_count()} cores, {torch.get_num_threads()} threads)", *gpus])


def _git_commit() -> str | None:
    """The commit of the working folder, None outside a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
