"""How many threads to compute with where the machine is shared. Nothing here needs PyTorch."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""What a container may take of the processors: microseconds in a period, and the period; `max` is no limit."""


def thread_count() -> int:
    """OMP_NUM_THREADS where it is set, else the processors that this process may use: by affinity and by its container's quota."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return max(1, min(_by_affinity(), _by_quota()))


def respect_quota() -> None:
    """Set OMP_NUM_THREADS where a container's quota is below the processors it sees.

    PyTorch counts processors and knows no quota; with more threads than it is given, each waits for the others. Programs call it
    before PyTorch is imported; where the variable is set, nothing is done.
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
