"""Random generators seeded by keys: the same keys give the same draws."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from cdal.runtime.errors import UserError

if TYPE_CHECKING:
    import torch


def seed_sequence(*keys: int | str) -> np.random.SeedSequence:
    """A seed computed from all keys, such as (seed, step, rank) or (seed, case).

    Raises:
        UserError: a number is negative.
    """
    negative = [key for key in keys if isinstance(key, int) and key < 0]
    if negative:
        raise UserError(f"a seed must be 0 or more; it is {negative[0]}.")
    numbers = [
        zlib.crc32(key.encode(errors="surrogateescape")) if isinstance(key, str) else key
        for key in keys
    ]
    return np.random.SeedSequence(numbers)


def generator(*keys: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A PyTorch generator seeded by `seed_sequence`; raises the same errors."""
    import torch

    state = seed_sequence(*keys).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
