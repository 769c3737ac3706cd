"""Whether an image is of the kind that a model was trained on.

A network answers to every image, also to those it was not made for. The model file therefore keeps
what the training images were (`TrainingImages`): their sizes, and the distribution of some numbers
of each of their aspects (`features`). An image outside of that is named, with what is different. So
is one that is nearer to them after a change that happens by mistake (`changes`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation

from cdal.imaging.image import invertible
from cdal.recipes.recipe import DataSettings

_SIZE = 1.5
"""Factor by which a length may leave the range of the training images."""

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_ORDERS = (1, 2, 3)
"""Orders of the differences of neighbours that describe the texture.

Blurring leaves little of the higher ones, and noise adds most to them.
"""

_BLOCKS = {2: 4, 3: 3}
"""Blocks along each axis whose mean intensities describe the layout of an image, by axes."""

NEARER = 1.25
"""How many times nearer a change has to bring an image to count, at least."""

_NEAR = 1.25
"""Part of the limit that may be left then: the image may be a little unusual as well."""

_CHANNELS = 4
"""Most channels that are described one by one."""

_WORDS = {
    "intensities": "intensities",
    "texture": "texture (sharpness or noise)",
    "colours": "colours",
    "layout": "layout (what lies where)",
}
"""The aspects of an image, in words."""

Features = Mapping[str, np.ndarray]
"""Numbers that describe an image, by aspect."""


@dataclass(frozen=True)
class Aspect:
    """What the training images were in one respect, such as their texture.

    Attributes:
        mean: mean of the features.
        precision: inverse of their covariance.
        usual: distance that 99 % of the training images keep from the others.
    """

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    usual: float

    def distance(self, described: np.ndarray) -> float:
        """Mahalanobis distance of features from those of the training images."""
        apart = described - np.array(self.mean)
        return math.sqrt(max(0.0, float(apart @ np.array(self.precision) @ apart)))


@dataclass(frozen=True)
class TrainingImages:
    """What the training images were.

    Attributes:
        count: number of images.
        lengths: smallest and largest length of a volume along each axis (right, anterior,
            superior) in mm; empty without geometry.
        spacing: smallest and largest voxel size along each axis in mm; empty without geometry.
        aspects: what they were in each respect, by name; empty if there were too few to tell.
        limit: how far an image may be from them, see `distances`: 99 % of the training images are
            nearer to the others in all aspects.
        nearer: how many times nearer an image may be after each of the `changes`, see
            `times_nearer`: 99 % of the training images come less near to the others.
    """

    count: int
    lengths: tuple[tuple[float, float], ...] = ()
    spacing: tuple[tuple[float, float], ...] = ()
    aspects: Mapping[str, Aspect] = field(default_factory=dict)
    limit: float = 0.0
    nearer: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The header's form: plain values."""
        return asdict(self)

    @staticmethod
    def of(values: Mapping[str, Any]) -> TrainingImages:
        """The inverse of `to_dict`.

        Of the form that earlier versions wrote the sizes are taken; their features were others.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: the values are of no such form.
        """
        limit = _numbers([values["limit"]])[0]
        if limit < 0:
            raise ValueError("expected a limit of 0 or more")
        of_sizes = TrainingImages(
            int(values["count"]),
            tuple(_pair(pair) for pair in values["lengths"]),
            tuple(_pair(pair) for pair in values["spacing"]),
        )
        if "nearer" not in values:
            return of_sizes
        return replace(
            of_sizes,
            aspects={name: _aspect(of_one) for name, of_one in values["aspects"].items()},
            limit=limit,
            nearer={name: _numbers([most])[0] for name, most in values["nearer"].items()},
        )

    def distances(self, described: Features) -> dict[str, float]:
        """Distance of an image in each aspect, as a multiple of the usual one.

        Args:
            described: see `features`.

        Raises:
            ValueError: the image has other aspects, or another number of features, than the
                training images.
        """
        sizes_of = {name: len(aspect.mean) for name, aspect in self.aspects.items()}
        if {name: len(values) for name, values in described.items()} != sizes_of:
            raise ValueError(f"expected features {sizes_of}")
        return {
            name: aspect.distance(described[name]) / aspect.usual
            for name, aspect in self.aspects.items()
        }

    def times_nearer(
        self, described: Features, changed: Mapping[str, Features]
    ) -> dict[str, float]:
        """How many times nearer an image is after each change.

        Only the aspects that a change alters count, by the root of their summed squared distances.

        Args:
            described: see `features`.
            changed: see `changes`.
        """
        before, times = self.distances(described), {}
        for what, others in changed.items():
            after = self.distances(others)
            altered = [name for name in before if not np.array_equal(others[name], described[name])]
            far, near = (math.hypot(*(of[name] for name in altered)) for of in (before, after))
            times[what] = far / max(1e-6, near) if altered else 1.0
        return times


def features(image: np.ndarray, data: DataSettings) -> Features:
    """Numbers that describe an image, by aspect.

    These are the quantiles of each channel (intensities), the logarithm of the mean square of the
    first, second and third differences of neighbours (texture), the correlations of the channels
    (colours), and the mean intensities of a few blocks (layout). Images that a network sees in
    windows, such as tissue, have no layout.

    Args:
        image: normalised image on the network's grid, `[C, *S]`. Some rows suffice.
        data: settings of the recipe.
    """
    channels = image[:_CHANNELS].astype(np.float64)
    flat = channels.reshape(len(channels), -1)
    described = {
        "intensities": np.quantile(flat, _QUANTILES, axis=1).T.ravel(),
        "texture": _texture(channels),
    }
    if len(channels) > 1:
        centred = flat - flat.mean(axis=1, keepdims=True)
        centred /= np.maximum(1e-6, centred.std(axis=1, keepdims=True))
        upper = np.triu_indices(len(flat), 1)
        described["colours"] = (centred @ centred.T / flat.shape[1])[upper]
    if _has_layout(data, image.ndim - 1):
        described["layout"] = _blocks(channels.mean(axis=0))
    return described


def changes(described: Features) -> dict[str, Features]:
    """The features that an image would have after changes that happen by mistake, by their names.

    They follow from those of the image itself. Blocks of uneven length make a small difference.
    """
    quantiles = described["intensities"].reshape(-1, len(_QUANTILES))
    changed: dict[str, Features] = {
        "has inverted contrast (light for dark)": {
            **described,
            "intensities": -quantiles[:, ::-1].ravel(),
            **({"layout": -described["layout"]} if "layout" in described else {}),
        }
    }
    if "layout" in described:
        axes = next(n for n, count in _BLOCKS.items() if count**n == len(described["layout"]))
        blocks = described["layout"].reshape((_BLOCKS[axes],) * axes)
        for name, axis in (("is upside down", (0, 2)), ("is mirrored", (1, 0))):
            flipped = np.flip(blocks, axis[axes - 2])
            changed[name] = {**described, "layout": flipped.ravel()}
    if 1 < len(quantiles) < _CHANNELS:  # of more only some may be described
        upper = np.triu_indices(len(quantiles), 1)
        matrix = np.zeros((len(quantiles), len(quantiles)))
        matrix[upper] = described["colours"]
        changed["has its channels in reverse order"] = {
            **described,
            "intensities": quantiles[::-1].ravel(),
            "colours": (matrix + matrix.T)[::-1, ::-1][upper],
        }
    return changed


def sizes(
    shape: Sequence[int], affine: np.ndarray | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lengths and voxel sizes along right, anterior, superior in mm; empty without geometry."""
    if affine is None or len(shape) != 3 or not invertible(affine):
        return (), ()
    world = io_orientation(affine)[:, 0]
    order = [int(np.flatnonzero(world == axis)[0]) for axis in range(3)]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return (
        tuple(float(spacing[axis] * shape[axis]) for axis in order),
        tuple(float(spacing[axis]) for axis in order),
    )


def doubts(
    seen: TrainingImages,
    image: np.ndarray,
    lengths: Sequence[float],
    spacing: Sequence[float],
    data: DataSettings,
) -> list[str]:
    """What about an image is unlike the training images; empty if nothing is.

    Args:
        seen: what the training images were.
        image: see `features`.
        lengths: lengths of the image, see `sizes`.
        spacing: voxel sizes of the image, see `sizes`.
        data: settings of the recipe.
    """
    found = _unlike("field of view", lengths, seen.lengths)
    found += _unlike("voxel size", spacing, seen.spacing)
    if not seen.aspects:
        return found
    described = features(image, data)
    try:
        distances = seen.distances(described)
    except ValueError:
        return [*found, "it has another number of axes or channels than the training images"]
    return [*found, *_unusual(seen, described, distances)]


def _unlike(
    what: str, lengths: Sequence[float], ranges: Sequence[tuple[float, float]]
) -> list[str]:
    """A sentence if lengths leave their ranges."""
    if len(lengths) != len(ranges):
        return []
    outside = any(
        length > _SIZE * high or length < low / _SIZE
        for length, (low, high) in zip(lengths, ranges, strict=True)
    )
    if not outside:
        return []
    own = " x ".join(f"{length:.3g}" for length in lengths)
    theirs = " x ".join(f"{low:.3g} to {high:.3g}" for low, high in ranges)
    return [f"its {what} is {own} mm, that of the training images {theirs}"]


def _unusual(
    seen: TrainingImages, described: Features, distances: Mapping[str, float]
) -> list[str]:
    """A sentence if features are unusual, or would be less so after a change."""
    farthest, changed = max(distances.values()), changes(described)
    nearer = seen.times_nearer(described, changed)
    telling = [
        what
        for what, times in nearer.items()
        if times > seen.nearer.get(what, NEARER)
        and max(seen.distances(changed[what]).values()) <= _NEAR * seen.limit
    ]
    what = max(telling, key=lambda name: nearer[name], default=None)
    if farthest > seen.limit:
        words = " and ".join(_WORDS[name] for name, far in distances.items() if far > seen.limit)
        return [
            f"it differs from the training images in {words} (distance {farthest:.3g}, theirs are "
            f"up to {seen.limit:.3g}){f'; perhaps it {what}' if what else ''}"
        ]
    if what is None:
        return []
    return [
        f"perhaps it {what}: without that it would be {nearer[what]:.2g} times nearer to the "
        "training images"
    ]


def _texture(channels: np.ndarray) -> np.ndarray:
    """Logarithm of the mean squared difference of neighbours, for each of `_ORDERS`."""
    energies = []
    for order in _ORDERS:
        squares = [
            float(np.square(np.diff(channels, order, axis)).mean())
            for axis in range(1, channels.ndim)
            if channels.shape[axis] > order
        ]
        energies.append(math.log10(max(1e-8, sum(squares) / max(1, len(squares)))))
    return np.array(energies)


def _has_layout(data: DataSettings, axes: int) -> bool:
    """Whether images show the same thing at the same place: all but pictures seen in windows."""
    return axes == 3 or data.resize is not None


def _blocks(image: np.ndarray) -> np.ndarray:
    """Mean intensity of each block, in the order of the axes."""
    count = _BLOCKS[image.ndim]
    means = image
    for axis in range(image.ndim):
        places = np.arange(count + 1) * image.shape[axis] / count
        lows = np.minimum(places[:-1].astype(int), image.shape[axis] - 1)
        highs = np.maximum(places[1:].astype(int), lows + 1)
        means = np.stack(
            [
                means.take(range(low, high), axis).mean(axis)
                for low, high in zip(lows, highs, strict=True)
            ],
            axis,
        )
    return means.ravel()


def _aspect(values: Mapping[str, Any]) -> Aspect:
    mean, (usual,) = _numbers(values["mean"]), _numbers([values["usual"]])
    precision = tuple(_numbers(row) for row in values["precision"])
    if any(len(row) != len(mean) for row in precision) or len(precision) != len(mean):
        raise ValueError("expected a square matrix")
    if usual <= 0:
        raise ValueError("expected a usual distance above 0")
    return Aspect(mean, precision, usual)


def _pair(values: Sequence[Any]) -> tuple[float, float]:
    low, high = _numbers(values)
    return low, high


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("expected finite numbers")
    return numbers
