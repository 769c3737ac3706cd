"""How well a segmentation expects to agree with the truth, summed over the bands of an image."""

from __future__ import annotations

import numpy as np

from cdal.inference.decision import decide, entropy


class Doubt:
    """The expected Dice and the entropy of one segmentation of any size.

    Args:
        classes: number of classes K, background included.
    """

    def __init__(self, classes: int) -> None:
        self._inside, self._mask, self._total = np.zeros((3, classes))
        self._largest = np.zeros(classes)
        self._entropy, self._voxels = 0.0, 0

    def take(self, probability: np.ndarray) -> None:
        """Add the next rows, `[K, h, *rest]`: the mean of the votes, as `Band.probability`."""
        flat = probability.reshape(len(probability), -1)
        mask = decide(flat)
        for k, values in enumerate(flat):
            self._inside[k] += values[mask == k].sum(dtype=np.float64)
        self._mask += np.bincount(mask, minlength=len(flat))
        self._total += flat.sum(axis=1, dtype=np.float64)
        self._largest = np.maximum(self._largest, flat.max(axis=1))
        self._entropy += float(entropy(flat).sum(dtype=np.float64))
        self._voxels += flat.shape[1]

    @property
    def expected_dice(self) -> np.ndarray:
        """Dice that the probabilities expect of the mask, for each foreground class, `[K - 1]`.

        2 sum_m p / (|m| + sum p), where m is the mask of a class and p its probability. If the mask
        is empty, it is right where the class is absent, whose probability is at most 1 - max p;
        that is the result then. (The sum of p says nothing about it: in a large picture the
        smallest probabilities alone add up to many voxels.)
        """
        dice = 2 * self._inside / np.maximum(self._mask + self._total, np.finfo(float).tiny)
        return np.where(self._mask > 0, dice, 1 - self._largest)[1:]

    @property
    def entropy(self) -> float:
        """Mean entropy of a voxel, in nats."""
        return self._entropy / max(1, self._voxels)

    @property
    def shares(self) -> np.ndarray:
        """Share of the image that each foreground class is expected to take, `[K - 1]`."""
        return self._total[1:] / max(1, self._voxels)
