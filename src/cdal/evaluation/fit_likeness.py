"""Fitting what the training images were (`cdal.inference.likeness`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf

from cdal.inference.likeness import Aspect, TrainingImages

_PARTS = 5
_FEWEST = 20
"""Images from which the distribution of the features is described."""

_LIMIT = 0.99
_SEED = 0

_ROUNDING = 1e-4
"""Variance, as a part of the features' own, that is added for those which are always the same.

The channels of gray pictures that were saved as colours are such: their correlations are 1.
"""


class Described(NamedTuple):
    """One training image.

    Attributes:
        features: see `cdal.inference.likeness.features`.
        lengths: see `cdal.inference.likeness.sizes`.
        spacing: see `cdal.inference.likeness.sizes`.
    """

    features: Mapping[str, np.ndarray]
    lengths: tuple[float, ...]
    spacing: tuple[float, ...]


def fit_likeness(images: Sequence[Described]) -> TrainingImages:
    """Describe the training images.

    The covariance of each aspect is shrunk (Ledoit & Wolf, 2004), because there may be hardly more
    images than features. Each fifth of the images is measured against the other four, so that no
    image is compared with itself. The usual distance in an aspect is the 99 % quantile of these
    distances. The limit is the 99 % quantile of an image's largest distance, each in usual ones.

    Aspects are apart, because among all features one that is far off, such as the sharpness, counts
    for little.
    """
    seen = TrainingImages(
        len(images),
        _ranges([image.lengths for image in images]),
        _ranges([image.spacing for image in images]),
    )
    if len(images) < _FEWEST:
        return seen
    aspects, apart = {}, []
    for name in images[0].features:
        described = np.stack([image.features[name] for image in images])
        distances = _apart(described)
        usual = max(1.0, float(np.quantile(distances, _LIMIT)))  # less is mere rounding
        aspects[name] = _aspect(described, round(usual, 4))
        apart.append(distances / usual)
    limit = max(1.0, float(np.quantile(np.max(apart, axis=0), _LIMIT)))
    return replace(seen, aspects=aspects, limit=round(limit, 4))


def _apart(features: np.ndarray) -> np.ndarray:
    """Distance of each row of `features`, `[N, F]`, from the other parts of the rows."""
    order = np.random.default_rng(_SEED).permutation(len(features))
    distances = np.zeros(len(features))
    for part in (order[start::_PARTS] for start in range(_PARTS)):
        others = _aspect(features[np.setdiff1d(order, part)])
        distances[part] = [others.distance(row) for row in features[part]]
    return distances


def _aspect(features: np.ndarray, usual: float = 1.0) -> Aspect:
    """The mean and the precision of features, whose scales are made equal before shrinkage."""
    scale = np.maximum(1e-3, features.std(axis=0))
    covariance = LedoitWolf().fit(features / scale).covariance_ + _ROUNDING * np.eye(len(scale))
    precision = np.linalg.inv(covariance) / np.outer(scale, scale)
    return Aspect(
        tuple(float(f"{value:.6g}") for value in features.mean(axis=0)),
        tuple(tuple(float(f"{value:.6g}") for value in row) for row in precision),
        usual,
    )


def _ranges(values: Sequence[tuple[float, ...]]) -> tuple[tuple[float, float], ...]:
    """Smallest and largest value along each axis; empty if images have different numbers."""
    if len({len(of_image) for of_image in values}) != 1:
        return ()
    return tuple(
        (float(f"{min(of_axis):.6g}"), float(f"{max(of_axis):.6g}"))
        for of_axis in zip(*values, strict=True)
    )


def widened(seen: TrainingImages, images: Sequence[Described]) -> TrainingImages:
    """Widen what the training images were to other images on which the model was calibrated."""
    lengths, spacing = (
        tuple(
            (min(low, least), max(high, most))
            for (low, high), (least, most) in zip(known, new, strict=True)
        )
        if len(known) == len(new)
        else known
        for known, new in (
            (seen.lengths, _ranges([image.lengths for image in images])),
            (seen.spacing, _ranges([image.spacing for image in images])),
        )
    )
    distances = []
    for image in images:
        with suppress(ValueError):  # images of another kind widen nothing
            distances.append(max(seen.distances(image.features).values(), default=0.0))
    limit = max([seen.limit, *([float(np.quantile(distances, _LIMIT))] if distances else [])])
    return replace(seen, lengths=lengths, spacing=spacing, limit=round(limit, 4))
