"""Signs of quality: what the votes on one image say about the quality of its mask."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cdal.inference.ballot import Ballot
from cdal.inference.decision import entropy, most_probable


class Signs:
    """Sums over the voxels of one image, from which its quality is estimated.

    They are collected band by band, so memory does not grow with the image.

    Args:
        classes: number of classes K.

    Attributes:
        inside: for each class, the sum of its probability over its part of the mask, `[K]`.
        mass: sum of the probability of each class over all voxels, `[K]`.
        variance: sum of p (1 - p) over all voxels, `[K]`: the variance of the volume if voxels
            were independent.
        peak: largest probability of each class, `[K]`.
        voxels: number of voxels of each class in the mask, `[K]`.
        entropy: sum of the entropy of all voxels, in nats.
        found: whether each vote has a voxel of each class, `[V, K]`; empty before the first votes.
        ballot: counts for the mask with the highest expected Dice; `None` unless it is wanted.
        skipped: share of the image that was taken for background without being segmented, see
            `cdal.inference.glass`.
        doubts: what about the image is unlike the training images, see
            `cdal.inference.likeness.doubts`.
    """

    def __init__(self, classes: int) -> None:
        self.inside, self.mass, self.variance, self.peak = np.zeros((4, classes))
        self.voxels, self.entropy = np.zeros(classes, np.int64), 0.0
        self.found = np.zeros((0, classes), bool)
        self.ballot: Ballot | None = None
        self.doubts: list[str] = []
        self.skipped = 0.0

    def see_votes(self, votes: np.ndarray) -> None:
        """Collect the votes of the next rows, `[V, K, h, *rest]`."""
        count, classes = votes.shape[:2]
        if not len(self.found):
            self.found = np.zeros((count, classes), bool)
        for vote, found in zip(votes, self.found, strict=True):
            mask = most_probable(vote)
            found |= [bool((mask == k).any()) for k in range(classes)]
        if self.ballot is not None:
            self.ballot.see(votes)

    def see_mask(self, mask: np.ndarray, probability: np.ndarray) -> None:
        """Collect the mask `[h, *rest]` and the probability `[K, h, *rest]` of the next rows."""
        self._see_inside(mask, probability)
        self.entropy += float(entropy(probability).sum(dtype=np.float64))
        for k, p in enumerate(probability):
            self.mass[k] += p.sum(dtype=np.float64)
            self.variance[k] += (p * (1 - p)).sum(dtype=np.float64)
            self.peak[k] = max(self.peak[k], float(p.max(initial=0)))

    def see_other_mask(self, bands: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """Replace the mask that was collected, after all rows, by bands as for `see_mask`."""
        self.voxels[:], self.inside[:] = 0, 0
        for mask, probability in bands:
            self._see_inside(mask, probability)

    def _see_inside(self, mask: np.ndarray, probability: np.ndarray) -> None:
        for k, p in enumerate(probability):
            inside = p[mask == k]
            self.voxels[k] += inside.size
            self.inside[k] += inside.sum(dtype=np.float64)

    def expected_dice(self, k: int) -> float:
        """The expected Dice of a class, if the probabilities are right.

        2 sum_{mask} p / (|mask| + sum p), the ratio of the expected numerator and denominator of
        Dice. If the mask is empty, Dice is 1 for an empty truth and 0 for any other: it is the
        share of empty votes, or 1 - max p with a single vote.
        """
        if self.voxels[k]:
            return float(2 * self.inside[k] / (self.voxels[k] + self.mass[k]))
        if len(self.found) > 1:
            return float(1 - self.found[:, k].mean())
        return float(1 - self.peak[k])

    @property
    def mean_expected_dice(self) -> float:
        """`expected_dice`, averaged over the classes except the background."""
        return float(np.mean([self.expected_dice(k) for k in range(1, len(self.mass))]))

    @property
    def mean_entropy(self) -> float:
        """Mean entropy of a voxel, in nats."""
        return self.entropy / max(1, int(self.voxels.sum()))

    @property
    def shares(self) -> np.ndarray:
        """Share of the image that each class except the background is expected to take."""
        return np.asarray(self.mass[1:] / max(1, int(self.voxels.sum())))
