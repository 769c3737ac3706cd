"""The numbers of label images: values, colours, or whatever is not 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.datasets.layout import Coding
from cdal.imaging.formats import read_any, read_label
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError


def read_values(path: Path, coding: Coding = "values") -> Image:
    """Read a label image; `array` is `[1, *S]` int32.

    If colours are classes, palettes are resolved to their colours, and the numbers are
    65536 * red + 256 * green + blue, also for gray.

    Raises:
        UserError: as for `read_label`, or colours are not of 8 bits.
    """
    if coding != "colours":
        return read_label(path)
    image = read_any(path)
    colours = image.array.repeat(3, axis=0) if len(image.array) == 1 else image.array
    if len(colours) != 3 or not np.isfinite(colours).all() or colours.max(initial=0) > 255:
        raise UserError(
            f"{path}: expected a label image in the declared colours, of 8 bits; it has "
            f"{len(image.array)} channel(s) with values to {image.array.max():g}."
        )
    red, green, blue = np.round(colours).astype(np.int32)
    return replace(image, array=(65536 * red + 256 * green + blue)[None])


def coded(numbers: np.ndarray, coding: Coding) -> np.ndarray:
    """Return the numbers of a label image as values of classes; 1 for whatever is not 0."""
    return (numbers != 0).astype(np.int32) if coding == "foreground" else numbers


def shown(value: int, coding: Coding) -> str:
    """Return a value as text; a colour as `#rrggbb`."""
    return f"#{value:06x}" if coding == "colours" else str(value)
