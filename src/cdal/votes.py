"""What the votes say together."""

from __future__ import annotations

import numpy as np


def spread(votes: np.ndarray) -> np.ndarray:
    """The uncertainty image: how far the votes' probabilities lie apart, `[V, K, *S] -> [*S]`.

    The root of half the variance over votes, summed over classes. For two classes it is the standard deviation of the foreground's
    probability. It lies between 0 and 0.71 and is 0 for a single vote.
    """
    return np.sqrt(votes.var(axis=0).sum(axis=0) / 2)
