"""Arrays that several tests make."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cdal.imaging.rows import Kept


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Normal draws in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise(*shape: int) -> np.ndarray:
    """Bytes, drawn anew for each shape."""
    return np.random.default_rng(sum(shape)).integers(256, size=shape).astype(np.uint8)


def kept(array: np.ndarray, lead: int, height: int, path: Path | None) -> Kept:
    """An array kept some rows at a time."""
    rows = Kept(array.dtype.type, path)
    for top in range(0, array.shape[lead], height):
        rows.append(
            np.take(array, range(top, min(array.shape[lead], top + height)), axis=lead), lead
        )
    return rows
