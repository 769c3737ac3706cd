"""How much memory this process holds, and when it returns it to the system."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_STATUS = Path("/proc/self/status")


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
