"""Slices of volumes as inputs of 2D networks."""

from __future__ import annotations

import numpy as np


def slices_with_neighbours(
    image: np.ndarray, axis: int, neighbours: int, indices: np.ndarray
) -> np.ndarray:
    """Return slices of a volume as pictures with the adjacent slices as extra channels.

    Beyond the ends of the volume, the last slice is repeated.

    Args:
        image: volume `[C, *S]` with three spatial axes.
        axis: spatial axis along which the slices are taken.
        neighbours: adjacent slices on each side.
        indices: indices of the slices, `[N]`.

    Returns:
        `[N, C * (2 * neighbours + 1), H, W]`.
    """
    along = np.moveaxis(image, 1 + axis, 0)
    offsets = np.arange(-neighbours, neighbours + 1)
    slices = along[np.clip(indices[:, None] + offsets, 0, len(along) - 1)]
    return slices.reshape(len(indices), -1, *slices.shape[3:])
