"""What a process costs: its peak memory, and what a training took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cdal.runtime import memory
from cdal.runtime.files import write_json


def peak_memory() -> float | None:
    """GiB that this process has held at most: of the GPU where it used one; none where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    return memory.peak_memory()


_COST = "cost.json"


def keep_cost(out: Path, cost: Mapping[str, Any]) -> None:
    """Write what the training took: steps, seconds, peak memory in GiB, device, threads. What is there is kept."""
    if not (out / _COST).is_file():
        write_json(out / _COST, dict(cost))


def kept_cost(out: Path) -> dict[str, Any]:
    """What `keep_cost` wrote; nothing where it did not, or where it cannot be read."""
    try:
        cost = json.loads((out / _COST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cost if isinstance(cost, dict) else {}
