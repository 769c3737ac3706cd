"""Scores of masks and of votes. Plain arrays in, plain numbers out; nothing here knows a network.

Rule for empty masks: where truth and prediction are both empty, Dice, IoU, precision and recall are 1; where one alone is
empty, they are 0. Surface distances need both; otherwise they are NaN, and means leave them out.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage, stats

from cdal.votes import spread


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
    p, y = (torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI speaks of masks it does not find one-hot
        hd95 = compute_hausdorff_distance(p, y, include_background=True, percentile=95, spacing=spacing)
        assd = compute_average_surface_distance(p, y, include_background=True, symmetric=True, spacing=spacing)
    return float(hd95), float(assd)


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


def disagreement(raters: np.ndarray, classes: int) -> np.ndarray:
    """The annotators' spread, as `spread` is that of the votes, `[R, *S]` of classes `-> [*S]`."""
    return spread(np.stack([raters == k for k in range(classes)], axis=1).astype(float))


def generalised_energy_distance(votes: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Squared generalised energy distance between votes and annotators (Székely & Rizzo; Kohl et al., NeurIPS 2018).

    2 E d(vote, rater) - E d(vote, vote') - E d(rater, rater') with d = 1 - IoU, averaged over the foreground classes, each of the
    expectations over all ordered pairs, a mask with itself included. 0 is perfect.

    Args:
        votes: `[V, *S]` of classes.
        raters: `[R, *S]` of classes.
        classes: K, with the background.
    """

    def mean_distance(first: np.ndarray, second: np.ndarray) -> float:
        distances = [1 - count(a == k, b == k).iou for a in first for b in second for k in range(1, classes)]
        return float(np.mean(distances))

    return 2 * mean_distance(votes, raters) - mean_distance(votes, votes) - mean_distance(raters, raters)


def border(raters: np.ndarray, width: int = 3) -> np.ndarray:
    """Where annotators may disagree: pixels within `width` of the border of any annotator's foreground, `[R, *S] -> [*S]` bool."""
    near = np.zeros(raters.shape[1:], bool)
    for mask in raters > 0:
        near |= ndimage.binary_dilation(mask, iterations=width) & ~ndimage.binary_erosion(mask, iterations=width, border_value=1)
    return near


def disagreement_correlation(uncertainty: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """Spearman's rank correlation, over the border pixels, of the votes' spread with the annotators' spread.

    Args:
        uncertainty: `[*S]`, see `spread`.
        raters: `[R, *S]` of classes.
        classes: K, with the background.

    Returns:
        NaN where either is the same at every border pixel.
    """
    where = border(raters)
    truth, guess = disagreement(raters, classes)[where], uncertainty[where]
    if truth.size < 2 or np.ptp(truth) == 0 or np.ptp(guess) == 0:
        return float("nan")
    return float(stats.spearmanr(guess, truth).statistic)
