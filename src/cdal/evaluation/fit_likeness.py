"""Fitting what the training images were (`cdal.inference.likeness`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf

from cdal.inference.likeness import TrainingImages

_PARTS = 5
_FEWEST = 20
"""Images from which the distribution of the features is described."""

_LIMIT = 0.99
_SEED = 0


class Described(NamedTuple):
    """One training image.

    Attributes:
        features: see `cdal.inference.likeness.features`.
        lengths: see `cdal.inference.likeness.sizes`.
        spacing: see `cdal.inference.likeness.sizes`.
    """

    features: np.ndarray
    lengths: tuple[float, ...]
    spacing: tuple[float, ...]


def fit_likeness(images: Sequence[Described]) -> TrainingImages:
    """Describe the training images.

    The covariance is shrunk (Ledoit & Wolf, 2004), because there may be hardly more images than
    features. The limit is the 99 % quantile of the images' distances: each fifth of
    the images is measured against the other four, so that no image is compared with itself.
    """
    seen = TrainingImages(
        len(images),
        _ranges([image.lengths for image in images]),
        _ranges([image.spacing for image in images]),
    )
    described = np.stack([image.features for image in images])
    if len(images) < _FEWEST:
        return seen
    order = np.random.default_rng(_SEED).permutation(len(images))
    parts = [order[start::_PARTS] for start in range(_PARTS)]
    distances = []
    for part in parts:
        others = _described(seen, described[np.setdiff1d(order, part)])
        distances += [others.distance(described[i]) for i in part]
    return replace(
        _described(seen, described), limit=round(float(np.quantile(distances, _LIMIT)), 4)
    )


def _described(seen: TrainingImages, features: np.ndarray) -> TrainingImages:
    """The mean and the precision of features, whose scales are made equal before shrinkage."""
    scale = np.maximum(1e-3, features.std(axis=0))
    fitted = LedoitWolf().fit(features / scale)
    precision = fitted.precision_ / np.outer(scale, scale)
    return replace(
        seen,
        mean=tuple(float(f"{value:.6g}") for value in features.mean(axis=0)),
        precision=tuple(tuple(float(f"{value:.6g}") for value in row) for row in precision),
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
    distances = [
        seen.distance(image.features)
        for image in images
        if seen.limit and len(image.features) == len(seen.mean)
    ]
    limit = max([seen.limit, *([float(np.quantile(distances, _LIMIT))] if distances else [])])
    return replace(seen, lengths=lengths, spacing=spacing, limit=round(limit, 4))
