"""Volumes as pictures for a network of two axes."""

from __future__ import annotations

import numpy as np

from cdal.recipes.settings import DataSettings


def slices_with_neighbours(image: np.ndarray, settings: DataSettings, indices: np.ndarray) -> np.ndarray:
    """Slices of a volume as pictures, each with its neighbours as further channels; beyond the ends the last slice repeats.

    Args:
        image: `[C, *S]` with three axes of space.
        settings: `slice_axis` and `neighbours`.
        indices: `[N]`, the slices wanted.

    Returns:
        `[N, C * (2 * neighbours + 1), H, W]`.
    """
    along = np.moveaxis(image, 1 + settings.slice_axis, 0)
    offsets = np.arange(-settings.neighbours, settings.neighbours + 1)
    found = along[np.clip(indices[:, None] + offsets, 0, len(along) - 1)]
    return found.reshape(len(indices), -1, *found.shape[3:])
