"""Volumes as pictures for a network of two axes."""

from __future__ import annotations

import numpy as np


def slices_with_neighbours(image: np.ndarray, axis: int, neighbours: int, indices: np.ndarray) -> np.ndarray:
    """Slices of a volume as pictures, each with its neighbours as further channels; beyond the ends the last slice repeats.

    Args:
        image: `[C, *S]` with three axes of space.
        axis: of space, across which the volume is cut.
        neighbours: on each side.
        indices: `[N]`, the slices wanted.

    Returns:
        `[N, C * (2 * neighbours + 1), H, W]`.
    """
    along = np.moveaxis(image, 1 + axis, 0)
    offsets = np.arange(-neighbours, neighbours + 1)
    found = along[np.clip(indices[:, None] + offsets, 0, len(along) - 1)]
    return found.reshape(len(indices), -1, *found.shape[3:])
