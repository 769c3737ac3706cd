"""Whole slides at full resolution, read with OpenSlide."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cdal.imaging.formats import readable
from cdal.imaging.grid import resized
from cdal.imaging.image import Image, need_regular, need_size
from cdal.imaging.rows import LARGE
from cdal.runtime.errors import UserError


def read(path: Path, as_label: bool) -> Image:
    """Read a whole slide into memory, `[3, H, W]`.

    This works for small slides only, unless the user has raised the limit of `need_size`.
    """
    slide = _Slide(path)
    need_size(path, (3, *slide.shape), 14)  # with alpha, as Pillow and as floating point
    return Image(slide.rows(0, slide.shape[0]), None, slide.like.suffix, None, slide.stored)


@contextmanager
def open_rows(path: Path, scratch: Path | None) -> Iterator[_Slide]:
    """Open a slide of any size, see `cdal.imaging.formats.Format`."""
    yield _Slide(path)


class _Slide:
    """A slide read a few rows at a time (`cdal.imaging.rows.Rows`); results are TIFF."""

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except ImportError as error:
            raise UserError(
                f'{path} is a whole slide, which needs OpenSlide: pip install "cdal[slides]"'
            ) from error
        need_regular(path)
        self.path = path
        try:
            self.slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            raise UserError(
                f"{path} cannot be read as a slide: {error}. Is the file complete?"
            ) from error
        width, height = self.slide.dimensions
        self.shape, self.stored = (height, width), np.dtype(np.uint8)
        self.like = Image(np.zeros((1, 0, 0), np.float32), None, ".tif", None, self.stored)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Return rows of the slide, see `Rows.rows`. Regions that were not scanned are white."""
        return self._region(start, 0, (self.shape[1], stop - start))

    def reduced(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return the slide made small, `[3, *size]`, by one of its smaller copies.

        Args:
            size: rows and columns of the result.

        Returns:
            `None` if the slide has no copy that is small enough to be read as a whole.
        """
        with readable(self.path, "whole slide"):
            times = min(self.shape[0] / size[0], self.shape[1] / size[1])
            level = self.slide.get_best_level_for_downsample(times)
            width, height = self.slide.level_dimensions[level]
        if width * height > LARGE:
            return None
        return resized(self._region(0, level, (width, height)), size)

    def _region(self, top: int, level: int, size: tuple[int, int]) -> np.ndarray:
        """Return columns and rows of a level from the row `top` of the full slide."""
        with readable(self.path, "whole slide"):
            region = np.asarray(self.slide.read_region((0, top), level, size), np.float32)
        alpha = region[..., 3:] / 255
        return np.moveaxis(region[..., :3] * alpha + 255 * (1 - alpha), -1, 0)
