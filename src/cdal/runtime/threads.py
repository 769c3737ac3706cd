"""The number of threads to compute with on a shared machine. This module does not need PyTorch."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""CPU quota of a container: microseconds per period, and the period. `max` means no limit."""


def thread_count() -> int:
    """OMP_NUM_THREADS if it is set, else `allowed_threads`."""
    variable = os.environ.get("OMP_NUM_THREADS", "")
    if variable.isdigit() and int(variable) > 0:
        return int(variable)
    return allowed_threads()


def allowed_threads() -> int:
    """Processors that this process may use: those of its affinity, within its container's quota."""
    return max(1, min(_by_affinity(), _by_quota()))


def share_of_threads(processes: int) -> int:
    """Threads for each of several processes that share what this one may use; at least 1."""
    return max(1, min(_by_affinity(), _by_quota()) // processes)


def respect_quota() -> None:
    """Set OMP_NUM_THREADS if a container's quota is below the number of processors it sees.

    PyTorch counts processors and ignores quotas. With more threads than the quota allows, the
    threads wait for each other. Programs call this before they import PyTorch. It does nothing if
    the variable is already set.
    """
    if not os.environ.get("OMP_NUM_THREADS") and _by_quota() < _by_affinity():
        os.environ["OMP_NUM_THREADS"] = str(thread_count())


def _by_affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _by_quota() -> int:
    try:
        quota, period = _QUOTA.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no container, or no limit
        return _by_affinity()
