"""NumPy arrays.

Pictures are `[H, W]`, or `[H, W, C]` with up to 4 channels. Volumes are `[*S]` with three axes, or
`[*S, C]`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cdal.imaging.formats.picture import channels_first
from cdal.imaging.image import Image, need_size
from cdal.runtime.errors import UserError
from cdal.runtime.files import encoded

_MOST_CHANNELS = 4


def read(path: Path, as_label: bool) -> Image:
    """Read an array. It has no geometry; pickled objects are refused."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
        raise UserError(
            f"{path}: expected one array of numbers; it holds "
            f"{getattr(array, 'dtype', type(array).__name__)}."
        )
    need_size(path, array.shape)
    if array.ndim not in (2, 3, 4):
        raise UserError(
            f"{path}: expected 2 to 4 axes (picture or volume, channels last); it has {array.ndim} "
            f"({array.shape})."
        )
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] > _MOST_CHANNELS):
        channels = array[None].astype(np.float32)
    elif array.ndim == 3:
        channels = channels_first(array)
    else:
        channels = np.moveaxis(array, -1, 0).astype(np.float32)
    return Image(channels, None, ".npy", None, array.dtype)


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write `[*S]` or `[N, *S]`."""
    with encoded(path) as buffer:
        np.save(buffer, array, allow_pickle=False)
