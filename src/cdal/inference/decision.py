"""From votes to a mask: spread, calibrated probabilities, the class of each voxel."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

LEAST = 1e-6
"""Smallest probability: lower ones are raised to it, because no voxel is certain."""


def spread(votes: np.ndarray) -> np.ndarray:
    """Uncertainty of each voxel: the spread of the votes' probabilities, `[V, K, *S] -> [*S]`.

    It is the root of half the variance over the votes, summed over the classes. For two classes
    this is the standard deviation of the foreground's probability. It is between 0 and 0.71, and 0
    for a single vote.
    """
    if len(votes) == 1:
        return np.zeros((*votes.shape[2:],), votes.dtype)
    mean = votes.mean(axis=0)
    squares = np.zeros_like(mean)
    for vote in votes:  # one at a time: no second copy of all votes
        squares += (vote - mean) ** 2
    return np.sqrt((squares / len(votes)).sum(axis=0) / 2)


def temper(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Temperature scaling of probabilities `[K, *S]` (Guo et al., ICML 2017).

    A temperature above 1 makes them less confident, one below 1 more. The most probable class stays
    the same. Probabilities are raised to the power 1 / temperature and normalised to sum to 1.
    """
    if temperature == 1:
        return probability
    powers: np.ndarray = np.maximum(probability, LEAST) ** np.float32(1 / temperature)
    return powers / powers.sum(axis=0)


def entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy of the class probabilities in nats, `[K, *S] -> [*S]`."""
    return -(probability * np.log(np.maximum(probability, LEAST))).sum(axis=0)


def decide(
    probability: np.ndarray, components: int = 0, weights: np.ndarray | None = None
) -> np.ndarray:
    """The class of each voxel, `[K, *S] -> [*S]` uint8: the most probable one.

    Args:
        probability: mean of the votes.
        components: number of components to keep, see `keep_components`; 0 keeps all.
        weights: weight of each class, `[K]`, see `cdal.inference.ballot.Ballot`; all the same if
            `None`.
    """
    if weights is not None:
        probability = probability * weights.reshape(-1, *[1] * (probability.ndim - 1))
    return keep_components(most_probable(probability), components)


def most_probable(probability: np.ndarray) -> np.ndarray:
    """The class with the largest probability, `[K, *S] -> [*S]` uint8; of equals, the first.

    Class by class, which takes a tenth of the time of `argmax` along the first axis.
    """
    classes = np.zeros(probability.shape[1:], np.uint8)
    highest = probability[0]
    for k in range(1, len(probability)):
        higher = probability[k] > highest
        np.putmask(classes, higher, k)
        if k + 1 < len(probability):
            highest = np.maximum(highest, probability[k])
    return classes


def classes_of_votes(votes: np.ndarray) -> np.ndarray:
    """`most_probable` of each vote, `[V, K, *S] -> [V, *S]` uint8."""
    return np.stack([most_probable(vote) for vote in votes])


def keep_components(mask: np.ndarray, components: int) -> np.ndarray:
    """Keep the largest connected components of each class; the others become background.

    Voxels that share a face, an edge or a corner are connected.

    Args:
        mask: class of each voxel, `[*S]`; changed in place.
        components: number of components to keep of each foreground class; 0 keeps all.
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
