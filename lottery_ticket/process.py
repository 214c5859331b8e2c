"""When this process began."""

import os
import time
from pathlib import Path

_IMPORTED = time.perf_counter()


def began() -> float:
    """When this process began, on the clock of `time.perf_counter`.

    To a hundredth of a second where the system is a Linux; elsewhere when this module was imported.
    """
    try:
        after_boot = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - after_boot
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
    return time.perf_counter() - age
