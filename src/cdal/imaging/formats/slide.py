"""Whole slides, by OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu")
"""Whole slides, which need the extra `slides`."""


class Slide:
    """A whole slide at its full resolution, by OpenSlide."""

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
        self.shape, self.channels, self.stored = (height, width), 3, np.dtype(np.uint8)
        self.like = Image(np.zeros((1, 0, 0), np.float32), None, ".tif", None, self.stored)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """See `Regions.rows`; what was not scanned is white."""
        region = np.asarray(self.slide.read_region((0, start), 0, (self.shape[1], stop - start)), np.float32)
        alpha = region[..., 3:] / 255
        return np.moveaxis(region[..., :3] * alpha + 255 * (1 - alpha), -1, 0)
