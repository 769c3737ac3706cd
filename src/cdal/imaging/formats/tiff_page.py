"""What the tags of a TIFF page say of its pixels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cdal.runtime.errors import UserError

_RESOLUTION = ("XResolution", "YResolution", "ResolutionUnit")


def largest_series(file: tifffile.TiffFile) -> Any:
    """Return the pages of the image without thumbnails and lower pyramid levels."""
    if not file.series:
        raise ValueError("it holds no page")
    return max(file.series, key=lambda series: math.prod(series.shape))


def need_content(path: Path, series: Any) -> None:
    """Refuse a file that is shorter than its header promises.

    Raises:
        UserError: strips or tiles lie behind the end of the file, or uncompressed ones are short.
    """
    held = path.stat().st_size
    for page in series.pages:
        if page is None:
            continue
        offsets, lengths = page.dataoffsets, page.databytecounts
        if any(
            length > 0 and offset + length > held
            for offset, length in zip(offsets, lengths, strict=False)
        ):
            raise UserError(f"{path}: its pixels end behind the end of the file. Is it complete?")
    keyframe = series.keyframe
    bits = keyframe.bitspersample if isinstance(keyframe.bitspersample, int) else 8
    size = math.prod(series.shape) * bits / 8
    if keyframe.compression == 1 and not keyframe.is_tiled and size > 2 * held:
        raise UserError(
            f"{path}: its header promises {size:.3g} bytes of pixels; the file has {held}. Is it "
            "complete?"
        )


def colours_of(page: Any) -> np.ndarray:
    """Return the palette of a page, red, green and blue of each number, `[N, 3]` uint8."""
    colours = np.moveaxis(np.asarray(page.colormap), 0, -1)
    # Colours have 16 bits; some programs write 8.
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def has_few_bits(page: Any) -> bool:
    """Whether numbers have less than 8 bits, as those of scanned documents."""
    return isinstance(page.bitspersample, int) and page.bitspersample < 8


def inverted(array: np.ndarray, bits: Any) -> np.ndarray:
    """Invert numbers of which 0 means white, so that 0 means black."""
    if array.dtype == bool:
        return ~array
    if array.dtype.kind != "u":
        return -array
    top = 2 ** (bits if isinstance(bits, int) else 8 * array.dtype.itemsize) - 1
    return (top - array).astype(array.dtype)


def has_alpha(page: Any) -> bool:
    """Whether the last sample of a page's pixels is an alpha channel."""
    return any(
        extra in (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
        for extra in page.extrasamples
    )


def orientation(page: Any) -> int:
    """Return how viewers turn a page: 1 to 8, as `picture.turned` takes it."""
    tag = page.tags.get("Orientation")
    value = tag.value if tag is not None else 1
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def resolution_tags(page: Any) -> dict[str, Any]:
    """Return the tags of a page that give its pixel size, of the page turned upright."""
    tags = {name: page.tags[name].value for name in _RESOLUTION if name in page.tags}
    if orientation(page) >= 5 and {"XResolution", "YResolution"} <= set(tags):
        tags["XResolution"], tags["YResolution"] = tags["YResolution"], tags["XResolution"]
    return tags
