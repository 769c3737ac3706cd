"""The segmentation of one image of any size, collected from its bands."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdal.imaging.grid import Frame
from cdal.imaging.rows import Kept
from cdal.inference.ballot import Ballot
from cdal.inference.decision import decide, keep_components
from cdal.inference.signs import Signs
from cdal.runtime.errors import UserError

_ROWS = 64
"""Rows of a block when the mask is chosen anew."""

MOST_WHOLE = 2**27
"""Most voxels of an image for results that need all of it in memory.

These are the largest components, single votes, instances and overlays.
"""


@dataclass(frozen=True)
class Band:
    """Some rows of a segmentation on the image's own grid, with axes in the order of `Frame.own`.

    Attributes:
        probability: mean of the votes at the model's temperature, `[K, h, *rest]` float32.
        uncertainty: spread of the votes, `[h, *rest]` float32.
        votes: probabilities of each vote, `[V, K, h, *rest]`, if they were requested.
    """

    probability: np.ndarray
    uncertainty: np.ndarray
    votes: np.ndarray | None = None


class Segmented:
    """Collects the bands of one image, in memory or on disk.

    Args:
        frame: frame of the image.
        classes: number of classes K.
        components: number of components to keep, see `cdal.inference.decision.keep_components`.
        keep: some of `probability`, `foreground`, `uncertainty` and `votes`. The mask is always
            kept.
        scratch: folder for rows on disk; rows are kept in memory if `None`.
        votes: number of votes V, if the mask with the highest expected Dice over them is wanted;
            `None` for the most probable class.

    Attributes:
        mask: class of each voxel, `[n, *rest]` uint8.
        probability: probability of each class, `[K, n, *rest]` float32.
        foreground: probability of each foreground class, `[K - 1, n, *rest]` float32; `[n, *rest]`
            if there is only one.
        uncertainty: spread of the votes, `[n, *rest]` float32.
        votes: probabilities of each vote, `[V, K, n, *rest]` float32.
        signs: signs of the quality of the segmentation.
        uncertain: sum of the uncertainty inside the mask.
        weights: weights of the classes that the mask was chosen with; `None` for equal ones.
    """

    def __init__(
        self,
        frame: Frame,
        classes: int,
        components: int,
        keep: Collection[str],
        scratch: Path | None = None,
        votes: int | None = None,
    ) -> None:
        def kept(name: str, kind: type) -> Kept:
            return Kept(kind, None if scratch is None else scratch / name)

        self.frame, self.components = frame, components
        self.mask, self.signs, self.uncertain = kept("mask", np.uint8), Signs(classes), 0.0
        self.weights: np.ndarray | None = None
        self.signs.ballot = None if votes is None else Ballot(classes, votes)
        later = bool(components) or votes is not None
        self.probability = (
            kept("probability", np.float32) if "probability" in keep or later else None
        )
        self.foreground = kept("foreground", np.float32) if "foreground" in keep else None
        self.uncertainty = (
            kept("uncertainty", np.float32) if "uncertainty" in keep or later else None
        )
        self.votes = kept("votes", np.float32) if "votes" in keep else None

    def take(self, band: Band) -> None:
        """Collect the next rows."""
        mask = decide(band.probability)
        self.mask.append(mask)
        if self.probability is not None:
            self.probability.append(band.probability, lead=1)
        if self.foreground is not None:
            foreground = band.probability[1:]
            self.foreground.append(
                foreground if len(foreground) > 1 else foreground[0],
                lead=min(1, len(foreground) - 1),
            )
        if self.uncertainty is not None:
            self.uncertainty.append(band.uncertainty)
        if self.votes is not None and band.votes is not None:
            self.votes.append(band.votes, lead=2)
        self.signs.see_mask(mask, band.probability)
        self.uncertain += _sum_inside(band.uncertainty, mask)

    def finish(self, temperature: float = 1.0) -> None:
        """After the last rows: choose the mask anew, if that was requested.

        Args:
            temperature: temperature of the probabilities.
        """
        ballot = self.signs.ballot
        if ballot is not None:
            assert self.probability is not None  # kept because of the ballot
            self.weights = ballot.weights(temperature)
            mask = Kept(
                np.uint8, None if self.mask.path is None else self.mask.path.with_name("chosen")
            )
            for start, stop in self._blocks():
                mask.append(decide(self.probability.rows(start, stop), 0, self.weights))
            self.mask = mask
        if self.components:
            kept = keep_components(np.array(self.mask.array()), self.components)
            self.mask = Kept(np.uint8)
            self.mask.append(kept)
        if ballot is not None or self.components:
            self._count_again()

    def _count_again(self) -> None:
        """Replace what was counted of an earlier mask."""
        # Both are kept if the mask may change.
        assert self.uncertainty is not None and self.probability is not None
        mask, probability, uncertainty = self.mask, self.probability, self.uncertainty
        self.signs.see_other_mask(
            (mask.rows(*block), probability.rows(*block)) for block in self._blocks()
        )
        self.uncertain = sum(
            _sum_inside(uncertainty.rows(*block), mask.rows(*block)) for block in self._blocks()
        )

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows that cover all of them."""
        for start in range(0, self.mask.count, _ROWS):
            yield start, min(self.mask.count, start + _ROWS)

    def straight(self, name: str) -> np.ndarray:
        """One of the attributes with the axes of the image: `[*S]`, `[K, *S]` or `[V, K, *S]`."""
        kept: Kept = getattr(self, name)
        return self.frame.straight(kept.array())


def _sum_inside(values: np.ndarray, mask: np.ndarray) -> float:
    return float(values[mask > 0].sum(dtype=np.float64))


def need_whole(name: str, shape: tuple[int, ...], what: str, remedy: str, count: int = 1) -> None:
    """Refuse a result that needs the whole image in memory, if the image is too large.

    Args:
        name: name of the image.
        shape: shape of the image.
        what: the result, in the plural.
        remedy: what to do instead.
        count: numbers that the result holds for each voxel.

    Raises:
        UserError: the result has more than `MOST_WHOLE` numbers.
    """
    if math.prod(shape) * count > MOST_WHOLE:
        times = f", {count} times" if count > 1 else ""
        raise UserError(
            f"{name}: {what} need the whole image in memory{times}, which is possible up to "
            f"{MOST_WHOLE:.2g} voxels; it has {math.prod(shape):.2g}. {remedy}"
        )
