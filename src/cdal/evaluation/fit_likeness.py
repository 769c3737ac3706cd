"""Fitting what the training images were (`cdal.inference.likeness`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf

from cdal.inference.likeness import NEARER, Aspect, Features, TrainingImages

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
        changed: the features after changes, see `cdal.inference.likeness.changes`.
    """

    features: Features
    lengths: tuple[float, ...]
    spacing: tuple[float, ...]
    changed: Mapping[str, Features] = {}


def fit_likeness(images: Sequence[Described]) -> TrainingImages:
    """Describe the training images.

    The covariance of each aspect is shrunk (Ledoit & Wolf, 2004), because there may be hardly more
    images than features. Each fifth of the images is measured against the other four, so that no
    image is compared with itself. The usual distance in an aspect is the 99 % quantile of these
    distances. The limit is the 99 % quantile of an image's largest distance, each in usual ones. A
    change may bring an image nearer by the 99 % quantile of what it does to the training images.

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
    order = np.random.default_rng(_SEED).permutation(len(images))
    parts = [order[start::_PARTS] for start in range(_PARTS)]
    others = [_aspects([images[i] for i in np.setdiff1d(order, part)]) for part in parts]
    apart = {name: np.zeros(len(images)) for name in images[0].features}
    for part, aspects in zip(parts, others, strict=True):
        for name, aspect in aspects.items():
            apart[name][part] = [aspect.distance(images[i].features[name]) for i in part]
    # Less than 1 is mere rounding.
    usual = {name: round(max(1.0, _quantile(far)), 4) for name, far in apart.items()}
    limit = max(1.0, _quantile(np.max([far / usual[name] for name, far in apart.items()], axis=0)))
    nearer = []
    for part, aspects in zip(parts, others, strict=True):
        known = replace(seen, aspects=_in_usual(aspects, usual))
        nearer += [known.times_nearer(images[i].features, images[i].changed) for i in part]
    return replace(
        seen,
        aspects=_in_usual(_aspects(images), usual),
        limit=round(limit, 4),
        nearer=_most(dict.fromkeys(images[0].changed, NEARER), nearer),
    )


def _quantile(values: Sequence[float] | np.ndarray) -> float:
    return float(np.quantile(values, _LIMIT))


def _most(known: Mapping[str, float], nearer: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What is known of how much nearer an image may be after each change, and what images add."""
    return {
        what: round(max(most, _quantile([times[what] for times in nearer])), 4)
        for what, most in known.items()
    }


def _aspects(images: Sequence[Described]) -> dict[str, Aspect]:
    names = images[0].features
    return {name: _aspect(np.stack([image.features[name] for image in images])) for name in names}


def _in_usual(aspects: Mapping[str, Aspect], usual: Mapping[str, float]) -> dict[str, Aspect]:
    return {name: replace(aspect, usual=usual[name]) for name, aspect in aspects.items()}


def _aspect(features: np.ndarray) -> Aspect:
    """The mean and the precision of features, whose scales are made equal before shrinkage."""
    scale = np.maximum(1e-3, features.std(axis=0))
    covariance = LedoitWolf().fit(features / scale).covariance_ + _ROUNDING * np.eye(len(scale))
    precision = np.linalg.inv(covariance) / np.outer(scale, scale)
    return Aspect(
        tuple(float(f"{value:.6g}") for value in features.mean(axis=0)),
        tuple(tuple(float(f"{value:.6g}") for value in row) for row in precision),
        usual=1.0,
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
    distances, nearer = [], []
    for image in images:
        with suppress(ValueError):  # images of another kind widen nothing
            distances.append(max(seen.distances(image.features).values(), default=0.0))
            nearer.append(seen.times_nearer(image.features, image.changed))
    if not distances:
        return replace(seen, lengths=lengths, spacing=spacing)
    return replace(
        seen,
        lengths=lengths,
        spacing=spacing,
        limit=round(max(seen.limit, _quantile(distances)), 4),
        nearer=_most(seen.nearer, nearer),
    )
