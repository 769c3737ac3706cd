"""Scores of segmentation masks, and their statistics.

The functions take NumPy arrays and return numbers; they need no network.

Empty masks: if truth and prediction are both empty, Dice, IoU, precision and recall are 1. If only
one of them is empty, they are 0. Surface distances need two non-empty masks; otherwise they are
NaN, and means leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Counts:
    """Voxel counts of one class.

    Attributes:
        both: number of voxels in both masks (TP).
        predicted_only: number of voxels only in the prediction (FP).
        truth_only: number of voxels only in the truth (FN).
    """

    both: int
    predicted_only: int
    truth_only: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return self._ratio(2 * self.both, 2 * self.both + self.predicted_only + self.truth_only)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN)."""
        return self._ratio(self.both, self.both + self.predicted_only + self.truth_only)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._ratio(self.both, self.both + self.predicted_only)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return self._ratio(self.both, self.both + self.truth_only)

    def _ratio(self, part: int, whole: int) -> float:
        if self.both + self.predicted_only + self.truth_only == 0:
            return 1.0
        return part / whole if whole else 0.0


def count(prediction: np.ndarray, truth: np.ndarray) -> Counts:
    """Count the voxels that two boolean masks share and those that only one of them has.

    Raises:
        ValueError: the shapes differ.
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if prediction.shape != truth.shape:
        raise ValueError(
            f"masks must have equal shapes; they are {prediction.shape} and {truth.shape}."
        )
    both = int((prediction & truth).sum())
    return Counts(both, int(prediction.sum()) - both, int(truth.sum()) - both)


def dice_by_class(
    prediction: np.ndarray, truth: np.ndarray, classes: Sequence[str]
) -> dict[str, float]:
    """Dice of each class of two class masks `[*S]`; 1 for a class that neither has.

    Args:
        prediction: class of each voxel.
        truth: likewise.
        classes: names of the classes, the background first. It has no Dice.
    """
    return {
        name: count(prediction == k, truth == k).dice for k, name in enumerate(classes) if k > 0
    }


def surface_distances(
    prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]
) -> tuple[float, float]:
    """HD95 and ASSD between the surfaces of two masks.

    HD95 is the larger of the two directed 95th percentiles. ASSD is the mean over both surfaces.
    The surface of a mask consists of the voxels that one erosion removes.

    Args:
        prediction: predicted mask, `[*S]`, boolean.
        truth: true mask, `[*S]`, boolean.
        spacing: size of a voxel in millimetres.

    Returns:
        HD95 and ASSD in millimetres; NaN if a mask is empty.
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if not prediction.any() or not truth.any():
        return float("nan"), float("nan")
    (box,) = ndimage.find_objects((prediction | truth).astype(np.uint8))
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction[box], truth[box])]
    first, second = surfaces
    distances = [
        ndimage.distance_transform_edt(~target, sampling=spacing)[source]
        for source, target in ((first, second), (second, first))
    ]
    hd95 = max(float(np.quantile(directed, 0.95)) for directed in distances)
    return hd95, float(np.concatenate(distances).mean())


def case_scores(
    prediction: np.ndarray, truth: np.ndarray, classes: tuple[str, ...], spacing: tuple[float, ...]
) -> dict[str, dict[str, float]]:
    """All scores of all foreground classes, `{class: {score: value}}`."""
    scores = {}
    for k, name in enumerate(classes[1:], start=1):
        counts = count(prediction == k, truth == k)
        hd95, assd = surface_distances(prediction == k, truth == k, spacing)
        scores[name] = {
            "dice": counts.dice,
            "iou": counts.iou,
            "precision": counts.precision,
            "recall": counts.recall,
            "hd95": hd95,
            "assd": assd,
        }
    return scores


def bootstrap_interval(
    values: np.ndarray, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over cases.

    NaN values are left out. With fewer than two cases both ends are NaN.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    from scipy import stats  # slow to import

    rng = np.random.default_rng(seed)
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, method="percentile", rng=rng
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def nan_mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def sample_sd(values: np.ndarray) -> float:
    """Sample standard deviation; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def nan_to_none(values: Any) -> Any:
    """Replace NaN by `None`, which JSON can hold, in nested dictionaries, lists and tuples.

    Tuples become lists.
    """
    if isinstance(values, Mapping):
        return {name: nan_to_none(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [nan_to_none(value) for value in values]
    return None if isinstance(values, float) and math.isnan(values) else values


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation.

    NaN if either array is constant or has fewer than two values.
    """
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    from scipy import stats  # slow to import

    return float(stats.spearmanr(first, second).statistic)


SCORES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "hd95": "HD95",
    "assd": "ASSD",
}
"""Scores of a class, with their names for display."""

DISTANCES = ("hd95", "assd")
"""The scores that are lengths and have a unit."""
