"""The cost of a process: its peak memory, and the record of what a training took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cdal.runtime import memory
from cdal.runtime.files import read_object, write_json


def peak_memory() -> float | None:
    """Peak memory of this process in GiB: GPU memory if it used a GPU, else main memory.

    `None` if the system does not report it.
    """
    import torch  # here, because the record of a training is read without it

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    return memory.peak_memory()


_COST = "cost.json"


def keep_cost(out: Path, cost: Mapping[str, Any]) -> None:
    """Write what a training took: steps, seconds, peak memory in GiB, device, threads.

    An existing file is left unchanged.
    """
    if not (out / _COST).is_file():
        write_json(out / _COST, dict(cost))


def kept_cost(out: Path) -> dict[str, Any]:
    """What `keep_cost` wrote; empty if the file is missing or cannot be read."""
    return read_object(out / _COST)


def joined_cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What several trainings took together: the sum of steps and seconds, the largest memory.

    What they all share, such as the device, is kept. Empty if one of them is unknown.
    """
    if not costs or not all(costs):
        return {}
    first = costs[0]
    shared = {
        name: value
        for name, value in first.items()
        if all(cost.get(name) == value for cost in costs)
    }
    sums = {
        name: sum(cost[name] for cost in costs)
        for name in ("steps", "seconds")
        if all(isinstance(cost.get(name), (int, float)) for cost in costs)
    }
    peaks = [cost["peak_memory"] for cost in costs if cost.get("peak_memory") is not None]
    return {**shared, **sums, "peak_memory": max(peaks, default=None)}
