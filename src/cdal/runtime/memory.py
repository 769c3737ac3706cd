"""How much memory this process holds and can take, and when it returns it to the system."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_STATUS = Path("/proc/self/status")
_SYSTEM = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")


def keep_freed_memory() -> None:
    """Make the C library reuse freed memory instead of returning it to the system.

    glibc returns large blocks immediately, and the system clears every page again for the next
    pass. That can take a third of the time of a pass over a volume. The setting affects the whole
    process, so programs should call this, not libraries. Without glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory() -> float | None:
    """Peak main memory of this process in GiB; `None` if the system does not report it."""
    # getrusage is the second choice: if a larger process started this one, it reports the memory of
    # the larger one.
    if _STATUS.is_file():
        return held("VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def free_memory() -> float | None:
    """GiB that this process can still take; `None` if the system does not report it.

    It is the least of what is free on the machine, in the container, and below the process's limit.
    """
    free = [value for value in (_free_on_machine(), _free_in_container(), _below_limit()) if value]
    return min(free, default=None)


def _free_on_machine() -> float | None:
    if _SYSTEM.is_file():
        match = re.search(r"MemAvailable:\s+(\d+) kB", _SYSTEM.read_text())
        return int(match[1]) / 2**20 if match else None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _free_in_container() -> float | None:
    try:
        limit = (_CONTAINER / "memory.max").read_text().strip()
        used = int((_CONTAINER / "memory.current").read_text())
        statistics = (_CONTAINER / "memory.stat").read_text()
    except (OSError, ValueError):
        return None
    # Files that the system keeps in memory count as used, and give way.
    cached = re.search(r"^inactive_file (\d+)$", statistics, re.MULTILINE)
    if limit == "max":
        return None
    return max(1.0, int(limit) - used + (int(cached[1]) if cached else 0)) / 2**30


def _below_limit() -> float | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = held("VmSize") if _STATUS.is_file() else None
    if limit == resource.RLIM_INFINITY or used is None:
        return None
    return max(2.0**-30, limit / 2**30 - used)


def held(what: str) -> float | None:
    """GiB that Linux reports for this process: `VmRSS` is the current value, `VmHWM` the peak.

    `None` if Linux does not report that value.
    """
    match = re.search(rf"{what}:\s+(\d+) kB", _STATUS.read_text())
    return int(match[1]) / 2**20 if match else None


def give_back() -> bool:
    """Return free memory to the system now. Returns whether that is possible here."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        return False
    trim(0)
    return True
