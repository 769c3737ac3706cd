"""Random generators from keys: the same keys give the same draws."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator(*keys: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator seeded from all the keys, such as (seed, step, rank) or (seed, case)."""
    numbers = [zlib.crc32(key.encode()) if isinstance(key, str) else key for key in keys]
    state = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
