"""Single objects of a mask: numbered by watershed, and as polygons (GeoJSON)."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

_SMOOTH = 1.0
_APART = 4
"""Pixels between the centres of two objects that touch."""


def number_objects(mask: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Objects `[H, W]` (int32, 0 is background), those that touch parted by a watershed.

    The basins are the distance to the border, weighted by the probability, so that objects part where they are narrow and where the
    segmenter is least sure.

    Args:
        mask: `[H, W]`, whatever is not 0 is inside.
        probability: `[H, W]` of being inside.
    """
    inside = mask > 0
    if not inside.any():
        return np.zeros(mask.shape, np.int32)
    height = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside) * probability, _SMOOTH)
    whole, _ = ndimage.label(inside)
    peaks = peak_local_max(height, min_distance=_APART, labels=whole, exclude_border=False)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    numbered = watershed(-height, seeds, mask=inside)
    missed = inside & (numbered == 0)  # an object too small to have a peak of its own
    extra, count = ndimage.label(missed)
    return np.where(missed, extra + numbered.max(), numbered).astype(np.int32) if count else numbered.astype(np.int32)
