"""Scores of masks. Plain arrays in, plain numbers out; nothing here knows a network.

Rule for empty masks: where truth and prediction are both empty, Dice, IoU, precision and recall are 1; where one alone is
empty, they are 0. Surface distances need both; otherwise they are NaN, and means leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, stats


@dataclass(frozen=True)
class Counts:
    """Voxels of one class: in both masks, in the prediction alone, in the truth alone."""

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
    """Compare two masks (true inside) of equal shape.

    Raises:
        ValueError: the shapes differ.
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if prediction.shape != truth.shape:
        raise ValueError(f"masks must have equal shapes; they are {prediction.shape} and {truth.shape}.")
    both = int((prediction & truth).sum())
    return Counts(both, int(prediction.sum()) - both, int(truth.sum()) - both)


def surface_distances(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> tuple[float, float]:
    """HD95 and ASSD between the surfaces of two masks `[*S]`.

    HD95 is the larger of the two directed 95th percentiles; ASSD the mean over both surfaces. Surfaces are the voxels that the
    mask loses when it is eroded once.

    Args:
        prediction: true inside.
        truth: true inside.
        spacing: millimetres per voxel.

    Returns:
        HD95 and ASSD in millimetres; NaN where a mask is empty.
    """
    prediction, truth = np.asarray(prediction, bool), np.asarray(truth, bool)
    if not prediction.any() or not truth.any():
        return float("nan"), float("nan")
    (box,) = ndimage.find_objects((prediction | truth).astype(np.uint8))
    surfaces = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction[box], truth[box])]
    first, second = surfaces
    distances = [ndimage.distance_transform_edt(~to, sampling=spacing)[of] for of, to in ((first, second), (second, first))]
    return max(float(np.quantile(one, 0.95)) for one in distances), float(np.concatenate(distances).mean())


def case_scores(
    prediction: np.ndarray, truth: np.ndarray, classes: tuple[str, ...], spacing: tuple[float, ...]
) -> dict[str, dict[str, float]]:
    """Every score of every class but the background, `{class: {score: value}}`."""
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


def bootstrap_interval(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean over cases; NaN is left out, and fewer than two cases give NaN."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    rng = np.random.default_rng(seed)
    result = stats.bootstrap((values,), np.mean, n_resamples=resamples, method="percentile", rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def nan_mean(values: np.ndarray) -> float:
    """The mean of what is there; NaN where nothing is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def sample_sd(values: np.ndarray) -> float:
    """The standard deviation of a sample; NaN of fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def nan_to_none(values: Any) -> Any:
    """Numbers in dictionaries, lists and tuples as JSON knows them: NaN as none."""
    if isinstance(values, Mapping):
        return {name: nan_to_none(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [nan_to_none(value) for value in values]
    return None if isinstance(values, float) and math.isnan(values) else values


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's; NaN where either is always the same, or there are fewer than two."""
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


SCORES = {"dice": "Dice", "iou": "IoU", "precision": "precision", "recall": "recall", "hd95": "HD95", "assd": "ASSD"}
"""Every score of a class and how it is written."""

DISTANCES = ("hd95", "assd")
"""Those that have a unit."""
