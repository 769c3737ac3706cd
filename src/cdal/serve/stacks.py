"""Reading back what a prediction wrote for several classes or votes: one image for each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cdal.imaging.formats import read_any, read_label, suffix_of
from cdal.runtime.errors import UserError

_PALETTES = (".png", ".bmp", ".tif", ".tiff")
"""Formats whose labels have a palette, so that the numbers must be asked for."""

_HIGHEST = 65535
"""Number in a PNG that stands for 1, see `cdal.imaging.formats.write_values`."""


def read_stack(path: Path, count: int, shape: tuple[int, ...], labels: bool) -> np.ndarray:
    """Read `count` images of one shape from one file.

    Args:
        path: file that `write_label` or `write_values` wrote.
        count: number of images N.
        shape: shape of each, `*S`.
        labels: whether the numbers are classes; otherwise they are 0 to 1.

    Returns:
        `[N, *S]`, uint8 or float32.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    suffix = suffix_of(path)
    image = read_label(path) if labels and suffix in _PALETTES else read_any(path, count)
    array, expected = image.array, (count, *shape)
    if array.size != np.prod(expected):
        raise UserError(
            f"{path}: expected {count} images of the shape {shape}; it has {array.shape}. Was the "
            "image changed? Segment it again."
        )
    if suffix == ".npy":  # whose first axis is read as one in space, the last as channels
        array = np.moveaxis(array, 0, -1)
    elif suffix in (".tif", ".tiff") and array.ndim == 4:
        # Pages come last, those of the first image before those of the second.
        array = np.moveaxis(array[0].reshape(*shape[:2], count, *shape[2:]), 2, 0)
    elif suffix in (".nii", ".nii.gz") and len(shape) == 2 and array.ndim == 4:
        array = array.swapaxes(1, 2)  # pictures on a fourth axis, read as slices of a volume
    array = array.reshape(expected)
    if labels:
        return array.astype(np.uint8)
    return (array / _HIGHEST if suffix == ".png" else array).astype(np.float32)
