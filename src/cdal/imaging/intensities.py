"""From stored numbers to what the network sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

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


@dataclass(frozen=True)
class Scale:
    """A clip and a linear map of each channel.

    Attributes:
        low: `[C]`.
        high: `[C]`.
        mean: `[C]`, what becomes 0.
        deviation: `[C]`, what becomes 1.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @staticmethod
    def of(values: np.ndarray, intensities: str, stored: np.dtype, name: str) -> Scale:
        """The scale of an image `[C, *S]`, see `DataSettings.intensities`.

        Raises:
            UserError: a channel is constant (`image`).
        """
        if intensities == "range":
            every, top = np.ones(len(values)), type_range(stored)
            return Scale(-math.inf * every, math.inf * every, top / 2 * every, top / 4 * every)
        flat = values.reshape(len(values), -1)
        low, high = np.percentile(flat, [0.5, 99.5], axis=1).astype(np.float32)
        # A channel that is flat but for a small object has no percentiles to clip to.
        sparse = high <= low
        low = np.where(sparse, flat.min(axis=1), low)
        high = np.where(sparse, flat.max(axis=1), high)
        if (constant := high <= low).any():
            raise UserError(
                f"{name}: expected an image with some contrast; every voxel is {low[constant][0]:g}. Is it the right file?"
            )
        # In float64: intensities reach 1e6 and more, whose squares do not add up in float32.
        wide = np.clip(flat, low[:, None], high[:, None]).astype(np.float64)
        return Scale(*(np.asarray(x, np.float64) for x in (low, high, wide.mean(axis=1), wide.std(axis=1))))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The image as the network sees it, `[C, *S]` float32."""
        low, high, mean, deviation = (
            x.reshape(-1, *[1] * (values.ndim - 1)) for x in (self.low, self.high, self.mean, self.deviation)
        )
        return ((np.clip(values.astype(np.float64), low, high) - mean) / deviation).astype(np.float32)


def normalise(values: np.ndarray, intensities: str, stored: np.dtype, name: str) -> np.ndarray:
    """An image `[C, *S]` as the network sees it; see `Scale`."""
    return Scale.of(values, intensities, stored, name).apply(values)
