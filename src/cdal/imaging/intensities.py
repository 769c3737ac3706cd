"""Conversion of stored intensities to the network's input."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

_JPEG_TOLERANCE = 4
"""Largest difference, of 255 gray levels, between the channels of a gray picture.

JPEG compression makes the channels of gray pictures saved in colour differ slightly.
"""

_AT_ONCE = 2**15
"""Numbers that are scaled at a time."""


def match_channels(image: Image, channels: int | None, name: str) -> Image:
    """Return the image with the given number of channels.

    One channel is repeated to three for pictures. Three equal channels are reduced to one.

    Args:
        image: the image.
        channels: number of channels; `None` returns the image unchanged.
        name: name of the image, for error messages.

    Raises:
        UserError: neither conversion applies.
    """
    count = image.array.shape[0]
    if channels is None or count == channels:
        return image
    if count == 1 and channels == 3 and len(image.shape) == 2:
        return replace(image, array=image.array.repeat(3, axis=0))
    if count == 3 and channels == 1 and is_gray(image):
        return replace(image, array=image.array[:1])
    hint = (
        " It has colours: train on colour images, or turn it to gray."
        if count == 3 and channels == 1
        else ""
    )
    raise UserError(
        f"{name}: expected {channels} channel(s), as in training; it has {count}.{hint}"
    )


def is_gray(image: Image) -> bool:
    """Whether an image has three channels that are equal.

    In pictures of 8 bits they may differ by compression errors. What other types hold is not known:
    a difference that is small for the type may be all that a channel shows.
    """
    if len(image.array) != 3:
        return False
    apart = float(np.abs(image.array - image.array[:1]).max())
    if image.stored != np.uint8:
        return apart == 0
    shown = float(image.array.max() - image.array.min())
    return apart <= max(1, _JPEG_TOLERANCE * shown / 255)


def type_range(stored: np.dtype) -> float:
    """Return the largest value of a type: 255 for 8 bits, 1 for floating point."""
    return float(np.iinfo(stored).max) if stored.kind in "iu" else 1.0


@dataclass(frozen=True)
class Scale:
    """Clipping and a linear map for each channel.

    Attributes:
        low: lower clipping limits, `[C]`.
        high: upper clipping limits, `[C]`.
        mean: values that become 0, `[C]`.
        deviation: distances from the mean that become 1, `[C]`.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    @staticmethod
    def of(values: np.ndarray, intensities: str, stored: np.dtype, name: str) -> Scale:
        """Compute the scale of an image `[C, *S]`, see `DataSettings.intensities`.

        Raises:
            UserError: all channels are constant (only if `intensities` is `image`). A constant
                channel beside others becomes 0.
        """
        if intensities == "range":
            ones, top = np.ones(len(values)), type_range(stored)
            return Scale(-math.inf * ones, math.inf * ones, top / 2 * ones, top / 4 * ones)
        flat = values.reshape(len(values), -1)
        low, high = np.percentile(flat, [0.5, 99.5], axis=1).astype(np.float32)
        # A flat channel with a small object has equal percentiles; use its extremes instead.
        sparse = high <= low
        low = np.where(sparse, flat.min(axis=1), low)
        high = np.where(sparse, flat.max(axis=1), high)
        constant = high <= low
        if constant.all():
            raise UserError(
                f"{name}: expected an image with some contrast; every voxel is {low[0]:g}. Is it "
                "the right file?"
            )
        # In float64: float32 is too imprecise for sums of squares of intensities above 1e6.
        wide = np.clip(flat, low[:, None], high[:, None]).astype(np.float64)
        deviation = np.where(constant, 1.0, wide.std(axis=1))
        mean = np.where(constant, low, wide.mean(axis=1))
        return Scale(*(np.asarray(x, np.float64) for x in (low, high, mean, deviation)))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return the image as the network's input, `[C, *S]` float32."""
        low, high, mean, deviation = (
            x.reshape(-1, *[1] * (values.ndim - 1))
            for x in (self.low, self.high, self.mean, self.deviation)
        )
        scaled = np.empty(values.shape, np.float32)
        # Some rows at a time: numbers in double precision then stay in the processor's cache.
        rows = max(1, _AT_ONCE * values.shape[1] // max(1, values.size))
        for start in range(0, values.shape[1], rows):
            some = values[:, start : start + rows].astype(np.float64)
            np.clip(some, low, high, out=some)
            some -= mean
            some /= deviation
            scaled[:, start : start + rows] = some
        return scaled


def normalise(values: np.ndarray, intensities: str, stored: np.dtype, name: str) -> np.ndarray:
    """Return an image `[C, *S]` as the network's input, see `Scale`."""
    return Scale.of(values, intensities, stored, name).apply(values)
