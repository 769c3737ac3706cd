"""A large picture with the number of channels that a model takes."""

from __future__ import annotations

import numpy as np

from cdal.imaging.image import Image
from cdal.imaging.intensities import match_channels
from cdal.imaging.rows import Rows
from cdal.runtime.errors import UserError


class Matched:
    """A large picture with the model's number of channels. Reading checks its intensities.

    See `cdal.imaging.rows.Rows`.
    """

    def __init__(self, picture: Rows, channels: int, name: str) -> None:
        self.picture, self.channels, self.name = picture, channels, name
        self.shape, self.stored, self.like = picture.shape, picture.stored, picture.like

    def rows(self, start: int, stop: int) -> np.ndarray:
        """See `Rows.rows`."""
        rows = self.picture.rows(start, stop)
        if not np.isfinite(rows).all():
            raise UserError(
                f"{self.name}: expected finite intensities; some are NaN or infinite. Replace them "
                "(with 0, say) first."
            )
        return match_channels(Image(rows, stored=self.stored), self.channels, self.name).array

    def reduced(self, size: tuple[int, int]) -> np.ndarray | None:
        """Return a smaller copy that the file holds, if it does, see `cdal.imaging.reduce`."""
        own = getattr(self.picture, "reduced", None)
        small = None if own is None else own(size)
        return small if small is not None and len(small) == self.channels else None
