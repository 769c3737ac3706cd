"""What a segmenter costs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

from cdal.segmenter import Segmenter


def parameters(segmenter: Segmenter) -> int:
    """Numbers that were learned, of the network that predicts."""
    return sum(weight.numel() for weight in segmenter.players()[segmenter.predictor].parameters())


def peak_memory() -> float | None:
    """GiB that this process has held at most: of the GPU where it used one; none where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    # The other way to ask, getrusage, tells of a process that was started by a larger one the larger one's memory.
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) / 2**20 if found else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
