"""Memory: what is free on this machine, and what a file from elsewhere may ask for."""

from pathlib import Path

PROCESS_BYTES = 650 * 2**20
"""Memory of a process that trains before its data: Python and torch."""

MOST_PROCESSES = 256


def processes() -> int:
    """How many processes that train this machine can hold now; at least one."""
    there = free()
    return MOST_PROCESSES if there is None else max(1, min(MOST_PROCESSES, there // PROCESS_BYTES))


def free() -> int | None:
    """Bytes of this machine's memory that are free; None where it cannot be told."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None


def too_much(declared: int, allowed: int, held: int, needed: int) -> str | None:
    """Why a file's arrays are not unpacked, with both numbers; None where they may be.

    Args:
        declared: bytes that it says they have.
        allowed: the most that a file of its length may say.
        held: its length.
        needed: bytes of memory that unpacking them and working with them takes.
    """
    if declared > allowed:
        return f"declares {declared:,} bytes; allowed: at most {allowed:,} in a file of {held:,}"
    there = free()
    if there is not None and needed > there:
        return f"needs {needed:,} bytes of memory; allowed: at most the {there:,} that are free"
    return None
