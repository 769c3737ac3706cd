"""Whole slides, by OpenSlide, at their full resolution."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cdal.imaging.image import Image, need_size
from cdal.runtime.errors import UserError


def read(path: Path, as_label: bool) -> Image:
    """All of a slide, `[3, H, W]`: a small one, or one for whose pixels the limit was raised."""
    slide = _Slide(path)
    need_size(path, (3, *slide.shape))
    return Image(slide.rows(0, slide.shape[0]), None, slide.like.suffix, None, slide.stored)


@contextmanager
def open_rows(path: Path, scratch: Path | None) -> Iterator[_Slide]:
    """See `cdal.imaging.formats.Format`; however small the slide is."""
    yield _Slide(path)


class _Slide:
    """See `cdal.imaging.rows.Rows`; its results are TIFF."""

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except ImportError as error:
            raise UserError(f"{path} is a whole slide, which needs OpenSlide: pip install 'cdal[slides]'.") from error
        try:
            self.slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            raise UserError(f"{path} cannot be read as a slide: {error}. Is the file complete?") from error
        width, height = self.slide.dimensions
        self.shape, self.stored = (height, width), np.dtype(np.uint8)
        self.like = Image(np.zeros((1, 0, 0), np.float32), None, ".tif", None, self.stored)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """See `Rows.rows`; what was not scanned is white."""
        region = np.asarray(self.slide.read_region((0, start), 0, (self.shape[1], stop - start)), np.float32)
        alpha = region[..., 3:] / 255
        return np.moveaxis(region[..., :3] * alpha + 255 * (1 - alpha), -1, 0)
