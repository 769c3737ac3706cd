"""The segmentation of one image of any size: its bands as they come, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdal.imaging.grid import Frame
from cdal.imaging.rows import Kept
from cdal.inference.decision import decide, keep_components
from cdal.runtime.errors import UserError

MOST_WHOLE = 2**27
"""Voxels of an image for whatever needs all of it in memory at once: components, single votes, instances, an overlay."""


@dataclass(frozen=True)
class Band:
    """Some rows of a segmentation, on the image's own voxels, its axes in the order of `Frame.own`.

    Attributes:
        probability: `[K, h, *rest]` float32, the mean over the votes, at the model's temperature.
        uncertainty: `[h, *rest]` float32, the spread of the votes.
        votes: `[V, K, h, *rest]` if they were asked for.
    """

    probability: np.ndarray
    uncertainty: np.ndarray
    votes: np.ndarray | None = None


class Segmented:
    """The bands of one image, kept in memory, or on disk if there is a folder for them.

    Args:
        frame: of the image.
        classes: K.
        components: see `cdal.inference.decision.keep_components`.
        keep: some of `probability`, `foreground`, `uncertainty` and `votes`; the mask is always kept.
        scratch: folder for rows on disk; in memory if `None`.

    Attributes:
        mask: `[n, *rest]` uint8.
        probability: `[K, n, *rest]` float32.
        foreground: `[K - 1, n, *rest]` float32, the probability of each class but the background; of one class `[n, *rest]`.
        uncertainty: `[n, *rest]` float32.
        votes: `[V, K, n, *rest]` float32.
        voxels: `[K]`, how many each class has.
        uncertain: sum of the uncertainty inside the mask.
    """

    def __init__(self, frame: Frame, classes: int, components: int, keep: Collection[str], scratch: Path | None = None) -> None:
        def kept(name: str, kind: type) -> Kept:
            return Kept(kind, None if scratch is None else scratch / name)

        self.frame, self.components = frame, components
        self.mask, self.voxels, self.uncertain = kept("mask", np.uint8), np.zeros(classes, np.int64), 0.0
        self.probability = kept("probability", np.float32) if "probability" in keep else None
        self.foreground = kept("foreground", np.float32) if "foreground" in keep else None
        self.uncertainty = kept("uncertainty", np.float32) if "uncertainty" in keep or components else None
        self.votes = kept("votes", np.float32) if "votes" in keep else None

    def take(self, band: Band) -> None:
        """The next rows."""
        mask = decide(band.probability)
        self.mask.append(mask)
        if self.probability is not None:
            self.probability.append(band.probability, lead=1)
        if self.foreground is not None:
            foreground = band.probability[1:]
            self.foreground.append(foreground if len(foreground) > 1 else foreground[0], lead=min(1, len(foreground) - 1))
        if self.uncertainty is not None:
            self.uncertainty.append(band.uncertainty)
        if self.votes is not None and band.votes is not None:
            self.votes.append(band.votes, lead=2)
        self._count(mask, band.uncertainty)

    def finish(self) -> None:
        """All rows were taken: keep the largest components only, if that is asked for."""
        if not self.components:
            return
        mask = keep_components(np.array(self.mask.array()), self.components)
        self.mask = Kept(np.uint8)
        self.mask.append(mask)
        self.voxels[:], self.uncertain = 0, 0.0
        assert self.uncertainty is not None  # as there are components
        self._count(mask, self.uncertainty.array())

    def straight(self, name: str) -> np.ndarray:
        """What was kept, with the axes of the image itself: `[*S]`, `[K, *S]` or `[V, K, *S]`."""
        kept: Kept = getattr(self, name)
        return self.frame.straight(kept.array())

    def _count(self, mask: np.ndarray, uncertainty: np.ndarray) -> None:
        self.voxels += np.bincount(mask.ravel(), minlength=len(self.voxels))
        self.uncertain += float(uncertainty[mask > 0].sum(dtype=np.float64))


def need_whole(name: str, shape: tuple[int, ...], what: str, remedy: str, count: int = 1) -> None:
    """Refuse what takes the whole image in memory, if the image is too large for that.

    Args:
        name: of the image.
        shape: of the image.
        what: is asked for.
        remedy: what to do instead.
        count: how many numbers it takes for each voxel.

    Raises:
        UserError: it has more than `MOST_WHOLE` voxels.
    """
    if math.prod(shape) * count > MOST_WHOLE:
        times = f", {count} times" if count > 1 else ""
        raise UserError(
            f"{name}: {what} need the whole image in memory{times}, which is possible up to {MOST_WHOLE:.2g} voxels; it has "
            f"{math.prod(shape):.2g}. {remedy}"
        )
