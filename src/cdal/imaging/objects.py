"""Numbering the single objects of a mask by a watershed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

_SMOOTH = 1.0
"""Standard deviation of the Gaussian filter before the watershed, in pixels."""

_MIN_DISTANCE = 4
"""Smallest distance between the centres of two touching objects, in pixels."""


def number_objects(mask: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Number the objects of a mask; touching objects are separated by a watershed.

    The watershed runs on the distance to the border times the probability. It therefore separates
    objects where they are narrow and where the segmenter is least certain.

    Args:
        mask: `[H, W]`; values other than 0 are inside.
        probability: probability of being inside, `[H, W]`.

    Returns:
        `[H, W]` int32, 0 for the background.
    """
    inside = mask > 0
    if not inside.any():
        return np.zeros(mask.shape, np.int32)
    height = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside) * probability, _SMOOTH)
    connected, _ = ndimage.label(inside)
    peaks = peak_local_max(
        height, min_distance=_MIN_DISTANCE, labels=connected, exclude_border=False
    )
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    numbered = watershed(-height, seeds, mask=inside)
    missed = inside & (numbered == 0)  # objects too small to have a peak
    extra, count = ndimage.label(missed)
    return (
        np.where(missed, extra + numbered.max(), numbered).astype(np.int32)
        if count
        else numbered.astype(np.int32)
    )
