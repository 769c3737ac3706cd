"""Drawing the outlines of classes on an image."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow
from skimage.segmentation import find_boundaries

from cdal.imaging.image import Image
from cdal.imaging.palette import PALETTE


def outlined(image: Image, label: np.ndarray, side: int | None = None) -> Pillow.Image:
    """Return a picture of the image with the outlines of its classes in their colours.

    Args:
        image: image on its own grid. For a volume, the slice along the last axis with most
            foreground is shown.
        label: classes `[*S]`.
        side: pixels of the longer side; `None` keeps the image's size.
    """
    array = image.array
    if label.ndim == 3:
        k = int((label > 0).sum(axis=(0, 1)).argmax())
        array, label = np.rot90(array[..., k], axes=(1, 2)), np.rot90(label[..., k])
    low, high = np.percentile(array, [1, 99]) if image.stored != np.uint8 else (0, 255)
    gray = np.clip((array - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    colours = np.moveaxis(gray[:3] if len(gray) >= 3 else gray[:1].repeat(3, axis=0), 0, -1)
    height, width = label.shape
    factor = (side or max(height, width)) / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = np.array(
        Pillow.fromarray(np.ascontiguousarray(colours)).resize(size, Pillow.Resampling.BILINEAR)
    )
    small = np.asarray(
        Pillow.fromarray(np.ascontiguousarray(label.astype(np.uint8))).resize(
            size, Pillow.Resampling.NEAREST
        )
    )
    line = find_boundaries(small, mode="inner")
    picture[line] = PALETTE[small[line]]
    return Pillow.fromarray(picture)
