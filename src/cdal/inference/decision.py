"""What the votes decide together: mean, spread, calibrated probabilities, and the mask."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

LEAST = 1e-6
"""Probabilities below are taken as this, as nothing is as sure as 0."""


def spread(votes: np.ndarray) -> np.ndarray:
    """The uncertainty image: how far the votes' probabilities lie apart, `[V, K, *S] -> [*S]`.

    The root of half the variance over votes, summed over classes. For two classes it is the standard deviation of the foreground's
    probability. It lies between 0 and 0.71 and is 0 for a single vote.
    """
    mean = votes.mean(axis=0)
    squares = np.zeros_like(mean)
    for vote in votes:  # one by one, so that no second copy of all votes is made
        squares += (vote - mean) ** 2
    return np.sqrt((squares / len(votes)).sum(axis=0) / 2)


def temper(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities `[K, *S]` made less sure (a temperature above 1) or surer (below 1); which is the largest stays.

    To the power 1 / temperature, and made to add up to 1: temperature scaling (Guo et al., ICML 2017) of the logarithms.
    """
    if temperature == 1:
        return probability
    powers: np.ndarray = np.maximum(probability, LEAST) ** np.float32(1 / temperature)
    return powers / powers.sum(axis=0)


def decide(probability: np.ndarray, components: int = 0) -> np.ndarray:
    """The class of each voxel, `[K, *S] -> [*S]` uint8: the most probable one.

    Args:
        probability: the mean over the votes.
        components: see `keep_components`; 0 keeps all.
    """
    return keep_components(probability.argmax(axis=0).astype(np.uint8), components)


def keep_components(mask: np.ndarray, components: int) -> np.ndarray:
    """Classes `[*S]` of which only the largest connected components of each stay, and the others become background.

    Args:
        mask: the classes; changed in place.
        components: how many stay of each class but the background; 0 keeps all. Voxels that touch by a face, an edge or a corner
            are connected.
    """
    if components == 0:
        return mask
    touching = ndimage.generate_binary_structure(mask.ndim, mask.ndim)
    for k in range(1, int(mask.max(initial=0)) + 1):
        numbered, count = ndimage.label(mask == k, touching)
        if count > components:
            sizes = np.bincount(numbered.ravel())
            kept = 1 + np.argsort(-sizes[1:], kind="stable")[:components]
            mask[(numbered > 0) & ~np.isin(numbered, kept)] = 0
    return mask
