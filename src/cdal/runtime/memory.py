"""How much memory this process holds and may take, and when it returns it to the system."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

from cdal.runtime.errors import UserError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_STATUS = Path("/proc/self/status")
_MACHINE = Path("/proc/meminfo")
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


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


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in the words of any library."""
    if isinstance(error, MemoryError):
        return True
    signs = (
        *("memory", "could not create a primitive", "bad_alloc", "failed to map segment"),
        "can't start new thread",
    )
    return isinstance(error, (RuntimeError, ImportError, OSError)) and any(
        sign in str(error).lower() for sign in signs
    )


def peak_memory() -> float | None:
    """Peak main memory of this process in GiB; `None` if the system does not report it."""
    # getrusage is the second choice: if a larger process started this one, it reports the memory of
    # the larger one.
    if _STATUS.is_file():
        return held("VmHWM")
    if resource is None:
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


def need_memory(needed: float, what: str, remedy: str) -> None:
    """Refuse work that needs more memory than is free.

    Args:
        needed: bytes.
        what: the image or the work, for the message.
        remedy: what to do instead.

    Raises:
        UserError: less is free.
    """
    free = free_memory()
    if free is not None and needed > free and give_back():
        free = free_memory()
    if free is not None and needed > free:
        raise UserError(
            f"{what}: about {needed / 2**30:.1f} GiB of memory are needed; "
            f"{max(0, free) / 2**30:.1f} GiB are free. {remedy}"
        )


def free_memory() -> int | None:
    """Bytes that this process can still take; `None` if the system does not report it.

    That is the least of what the machine has, what its container may take, and what the limit on
    the address space of the process (`ulimit -v`) leaves.
    """
    known = [value for value in (_of_machine(), _of_group(), _of_limit()) if value is not None]
    return min(known) if known else None


def _of_machine() -> int | None:
    match = re.search(r"MemAvailable:\s+(\d+) kB", _text(_MACHINE))
    return int(match[1]) * 1024 if match else None


def _of_group() -> int | None:
    """What the control groups of the process leave, version 2; all of them count."""
    match = re.search(r"^0::(/.*)$", _text(_GROUP), re.MULTILINE)
    if match is None:
        return None
    left = []
    folder = _GROUPS / match[1].lstrip("/")
    for group in (folder, *folder.parents):
        limit, used = _text(group / "memory.max").strip(), _text(group / "memory.current").strip()
        if limit.isdigit() and used.isdigit():
            # The system gives up what it keeps of files before it ends a process.
            cache = re.search(r"^inactive_file (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
            left.append(int(limit) - int(used) + (int(cache[1]) if cache else 0))
        if group == _GROUPS:
            break
    return min(left, default=None)


def _of_limit() -> int | None:
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    size = re.search(r"VmSize:\s+(\d+) kB", _text(_STATUS))
    if limit == resource.RLIM_INFINITY or size is None:
        return None
    return limit - int(size[1]) * 1024


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
