"""From stored numbers to what the network sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from monai.data import MetaTensor

from cdal.data.image import Image
from cdal.errors import UserError

_ALIKE = 4
"""Gray levels of 256 by which the channels of a gray picture saved in colours may differ (JPEG)."""


def match_channels(image: Image, channels: int | None, name: str) -> Image:
    """The image with so many channels: a gray picture is repeated, a gray one saved in colours is reduced.

    Raises:
        UserError: it can be brought there by neither.
    """
    came = image.array.shape[0]
    if channels is None or came == channels:
        return image
    if came == 1 and channels == 3 and len(image.shape) == 2:
        return replace(image, array=image.array.repeat(3, axis=0))
    if came == 3 and channels == 1 and is_gray(image):
        return replace(image, array=image.array[:1])
    hint = " It has colours: train on colour images, or turn it to gray." if came == 3 and channels == 1 else ""
    raise UserError(f"{name}: expected {channels} channel(s), as in training; it has {came}.{hint}")


def is_gray(image: Image) -> bool:
    """Whether the three channels of a picture are alike."""
    tolerance = _ALIKE * type_range(image.stored) / 255
    return len(image.array) == 3 and float(np.abs(image.array - image.array[:1]).max()) <= tolerance


def type_range(stored: np.dtype) -> float:
    """The largest number of a type: 255 for 8 bits; 1 for floating point."""
    return float(np.iinfo(stored).max) if stored.kind in "iu" else 1.0


def normalise(values: MetaTensor, intensities: str, stored: np.dtype, name: str) -> MetaTensor:
    """Intensities as the network sees them, see `DataSettings.intensities`.

    Args:
        values: `[C, *S]`.
        intensities: `image` or `range`.
        stored: the type that the file has.
        name: of the case, for the message.

    Raises:
        UserError: a channel is constant (`image`).
    """
    if intensities == "range":
        return MetaTensor(from_range(values.as_tensor(), stored), affine=values.affine)
    flat = values.as_tensor().flatten(1).numpy()
    low, high = np.percentile(flat, [0.5, 99.5], axis=1, keepdims=True).astype(np.float32)
    # A channel that is flat but for a small object has no percentiles to clip to.
    sparse = high <= low
    low = np.where(sparse, flat.min(axis=1, keepdims=True), low)
    high = np.where(sparse, flat.max(axis=1, keepdims=True), high)
    constant = (high <= low)[:, 0]
    if constant.any():
        raise UserError(
            f"{name}: expected an image with some contrast; every voxel is {low[constant][0, 0]:g}. Is it the right file?"
        )
    flat = np.clip(flat, low, high)
    # In float64: intensities reach 1e6 and more, whose squares do not add up in float32.
    wide = flat.astype(np.float64)
    scaled = (wide - wide.mean(axis=1, keepdims=True)) / wide.std(axis=1, keepdims=True)
    return MetaTensor(torch.from_numpy(scaled.astype(np.float32)).reshape(values.shape), affine=values.affine)


def from_range(values: torch.Tensor, stored: np.dtype) -> torch.Tensor:
    """Stored numbers from 0 to the type's largest, as [-2, 2]."""
    return values * (4 / type_range(stored)) - 2


def to_unit(values: torch.Tensor) -> torch.Tensor:
    """[-2, 2] as [0, 1]."""
    return (values + 2) / 4
