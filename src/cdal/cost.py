"""What a segmenter costs."""

from __future__ import annotations

import torch

from cdal import memory
from cdal.segmenter import Segmenter


def parameters(segmenter: Segmenter) -> int:
    """Numbers that were learned, of the network that predicts."""
    return sum(weight.numel() for weight in segmenter.players()[segmenter.predictor].parameters())


def peak_memory() -> float | None:
    """GiB that this process has held at most: of the GPU where it used one; none where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    return memory.peak_memory()
