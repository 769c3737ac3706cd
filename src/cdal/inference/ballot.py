"""The mask with the highest expected Dice over the votes, among all thresholds."""

from __future__ import annotations

import numpy as np

from cdal.inference.decision import LEAST, classes_of_votes

_EDGES = np.linspace(-6.0, 6.0, 97)
"""Thresholds of log p_k - log max_{j != k} p_j that are tried; 0 is one of them. Its steps of 1/8
change a probability by at most 0.03."""


class Ballot:
    """Counts, from which the best threshold of each class is found without a second pass.

    The mask of class k at a threshold t is {log p_k - log max_{j != k} p_j > t}, with p the mean
    of the votes; t = 0 is the largest probability. Each vote is taken as a possible truth, so the
    expected Dice of a mask is its mean Dice with the votes. Two empty masks have a Dice of 1.

    Args:
        classes: number of classes K.
        votes: number of votes V.
    """

    def __init__(self, classes: int, votes: int) -> None:
        self.all = np.zeros((classes, len(_EDGES) + 1), np.int64)
        self.in_votes = np.zeros((votes, classes, len(_EDGES) + 1), np.int64)

    def see(self, votes: np.ndarray) -> None:
        """Count the votes of the next rows, `[V, K, h, *rest]`."""
        logs = np.log(np.maximum(votes.mean(axis=0), LEAST)).reshape(votes.shape[1], -1)
        masks = classes_of_votes(votes).reshape(len(votes), -1)
        size = len(_EDGES) + 1
        for k in range(1, len(logs)):
            others = np.delete(logs, k, axis=0).max(axis=0)
            bins = np.searchsorted(_EDGES, logs[k] - others, side="left")
            self.all[k] += np.bincount(bins, minlength=size)
            for vote, counted in zip(masks, self.in_votes, strict=True):
                counted[k] += np.bincount(bins[vote == k], minlength=size)

    def weights(self, temperature: float) -> np.ndarray:
        """Weights `[K]` such that the class is the largest weighted probability.

        Args:
            temperature: temperature of the probabilities that are weighted, see
                `cdal.inference.decision.temper`.
        """
        chosen = np.array([0.0, *(self._best(k) for k in range(1, len(self.all)))])
        return np.exp(-chosen / temperature)

    def _best(self, k: int) -> float:
        """The threshold with the highest expected Dice; infinite for the empty mask."""
        mask = _above(self.all[k])
        both = _above(self.in_votes[:, k])
        sizes = mask + self.in_votes[:, k].sum(axis=1)[:, None]
        dice = np.divide(2.0 * both, sizes, out=np.ones(both.shape), where=sizes > 0).mean(axis=0)
        # Of equals, the one nearest to the largest probability.
        best = np.flatnonzero(dice >= dice.max() - 1e-12)
        thresholds = np.append(_EDGES, np.inf)
        return float(thresholds[best[np.argmin(np.abs(thresholds[best]))]])


def _above(counts: np.ndarray) -> np.ndarray:
    """Number of voxels above each threshold, and none, from the counts between them."""
    above = np.flip(np.cumsum(np.flip(counts, -1), axis=-1), -1)[..., 1:]
    return np.concatenate([above, np.zeros((*counts.shape[:-1], 1), counts.dtype)], axis=-1)
