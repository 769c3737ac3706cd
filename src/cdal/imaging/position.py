"""The place of each voxel, as further channels of an image (Liu et al., CoordConv, NeurIPS 2018).

The receptive field of a light network does not reach the border of an image, so without these
channels it does not know where it is.
"""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=8)
def positions(shape: tuple[int, ...]) -> np.ndarray:
    """Coordinates of the voxels, `[n, *S]` float32 for n axes.

    Along its axis, each rises from -sqrt(3) to sqrt(3): mean 0 and variance 1, like a normalised
    image. An axis of one voxel has 0.
    """
    along = [np.linspace(-1, 1, size) if size > 1 else np.zeros(1) for size in shape]
    found = np.sqrt(3) * np.stack(np.meshgrid(*along, indexing="ij"))
    found = found.astype(np.float32)
    found.setflags(write=False)  # the same array is given out again
    return found


def with_positions(images: np.ndarray) -> np.ndarray:
    """Images with the places of their voxels, `[B, C, *S] -> [B, C + n, *S]`."""
    place = positions(images.shape[2:])
    return np.concatenate(
        [images, np.broadcast_to(place, (len(images), *place.shape))], axis=1, dtype=np.float32
    )
