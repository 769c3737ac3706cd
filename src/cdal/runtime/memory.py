"""How much memory this process holds, and how it keeps it."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_STATUS = Path("/proc/self/status")


def keep_freed_memory() -> None:
    """Have the C library keep the memory that one pass frees for the next, instead of giving it back to the system.

    glibc gives large blocks back at once, and the system clears every page of them anew, which can take a third of a pass over a
    volume. It concerns the whole process, so programs call it, not libraries. Elsewhere than with glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory() -> float | None:
    """GiB of main memory that this process has held at most; none where the system does not tell."""
    # The other way to ask, getrusage, tells of a process that was started by a larger one the larger one's memory.
    if _STATUS.is_file():
        return held("VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def held(what: str) -> float | None:
    """GiB that Linux tells of this process: `VmRSS` now, `VmHWM` at most; none where it does not."""
    found = re.search(rf"{what}:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) / 2**20 if found else None


def give_back() -> bool:
    """Give what is free back to the system now; whether that can be done here."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        return False
    trim(0)
    return True
