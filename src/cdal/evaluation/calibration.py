"""Calibration and uncertainty metrics.

The functions take NumPy arrays and return numbers; they need no network. Metrics are computed in a
box around the true foreground (`region`). Far from it, every system is correct and certain, and
these voxels would make any calibration look perfect (Mehrtash et al., IEEE TMI 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from cdal.evaluation.metrics import nan_mean, rank_correlation
from cdal.inference.decision import LEAST, entropy

BINS = 15
"""Number of bins of the reliability diagram; all have the same width (Guo et al., ICML 2017)."""

COVERAGES = np.linspace(0.05, 1, 20)
"""Coverages at which the risk-coverage curve is reported."""

_MARGIN = 8
TEMPERATURES = (0.25, 4.0)
"""Bounds of a fitted temperature."""

_FITTED = 2**15
"""Number of voxels of each case, evenly spaced, that a temperature is fitted to."""


@dataclass(frozen=True)
class Certainty:
    """Certainty of a segmentation of one case, and how often it was correct.

    Uncertainty is either the entropy of the mean probability or the spread of the votes.

    Attributes:
        scores: scores by name. `nll` is the mean negative log-likelihood of the true class, in
            nats. `brier` is the mean squared distance of the probabilities from the one-hot truth,
            summed over classes (0 to 2). Three scores exist for the entropy and, with the suffix
            `_spread`, for the spread: `aurc` is the area under the risk-coverage curve, `auroc`
            measures how well the uncertainty separates wrong voxels from correct ones (0.5 is
            chance), and `doubt` is the uncertainty summed over the whole image, divided by the
            number of voxels segmented as foreground.
        bins: data of the reliability diagram, `[BINS, 3]`. Voxels are binned by their largest
            probability; each row holds the number of voxels, the sum of their largest
            probabilities, and the number of correct voxels.
        risks: for `entropy` and `spread`, the share of wrong voxels among the most certain ones at
            each of `COVERAGES`.
    """

    scores: dict[str, float]
    bins: np.ndarray
    risks: dict[str, np.ndarray]


def certainty(
    probability: np.ndarray, uncertainty: np.ndarray | None, truth: np.ndarray
) -> Certainty:
    """Compute the metrics of one case.

    Args:
        probability: mean probability over the votes, `[K, *S]`.
        uncertainty: spread of the votes, `[*S]`; `None` if there is only one vote.
        truth: true classes, `[*S]`.
    """
    inside = region(truth)
    uncertainties = {"entropy": entropy(probability)} | (
        {} if uncertainty is None else {"spread": uncertainty}
    )
    p = np.stack([of_class[inside].reshape(-1) for of_class in probability]).astype(np.float64)
    p, y = p / p.sum(axis=0), truth[inside].reshape(-1)
    wrong = p.argmax(axis=0) != y
    p_true = np.take_along_axis(p, y[None].astype(int), axis=0)[0]
    scores = {
        "nll": float(-np.log(np.maximum(p_true, LEAST)).mean()),
        "brier": float(((p**2).sum(axis=0) - 2 * p_true + 1).mean()),
    }
    foreground = max(1, int((probability.argmax(axis=0) > 0).sum()))
    risks = {}
    for name, doubt in uncertainties.items():
        suffix = "" if name == "entropy" else f"_{name}"
        voxels, wrongs = by_doubt(doubt[inside].reshape(-1), wrong)
        curve = risk_coverage(voxels, wrongs)
        scores[f"aurc{suffix}"] = float(curve.mean())
        scores[f"auroc{suffix}"] = detection(voxels, wrongs)
        scores[f"doubt{suffix}"] = float(doubt.sum(dtype=np.float64)) / foreground
        risks[name] = curve[np.maximum(0, np.round(COVERAGES * len(curve)).astype(int) - 1)]
    return Certainty(scores, reliability(p.max(axis=0), ~wrong), risks)


def fit_temperature(cases: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Fit the temperature that minimises the negative log-likelihood.

    The likelihood is averaged over cases and annotators; `cdal.inference.decision.temper` applies
    the temperature.

    Args:
        cases: probabilities `[K, *S]` and the annotators' classes `[R, *S]` of each case.
    """
    samples = []
    for probability, raters in cases:
        inside = region(raters.max(axis=0))
        p, y = (
            np.stack([values[inside].reshape(-1) for values in stacked])
            for stacked in (probability, raters)
        )
        voxels = np.linspace(0, p.shape[1] - 1, min(p.shape[1], _FITTED)).astype(int)
        samples.append((np.log(np.maximum(p[:, voxels], LEAST)), y[:, voxels].astype(int)))

    def mean_nll(temperature: float) -> float:
        return float(np.mean([_nll(log_p / temperature, y) for log_p, y in samples]))

    return float(
        minimize_scalar(mean_nll, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-3}).x
    )


def _nll(logits: np.ndarray, raters: np.ndarray) -> float:
    """Mean negative log-likelihood of the classes `[R, N]` under the logits `[K, N]`."""
    return float((logsumexp(logits, axis=0) - np.take_along_axis(logits, raters, axis=0)).mean())


def summary_of(cases: Sequence[Certainty], dice: np.ndarray) -> dict[str, Any]:
    """Summarise the metrics of several cases.

    Scores are means over cases. The calibration error and the reliability diagram are computed over
    the voxels of all cases together.

    Args:
        cases: result of `certainty` for each case.
        dice: Dice of each case.

    Returns:
        The scores; `ece`; the rank correlation of Dice and doubt as `dice_by_doubt`; and the data
        of the curves, `reliability` and `risk`. A score that no case has is NaN.
    """
    bins = np.sum([case.bins for case in cases], axis=0)
    values = {name: np.array([case.scores[name] for case in cases]) for name in cases[0].scores}
    doubts = [name for name in values if name.startswith("doubt")]
    return {
        "ece": calibration_error(bins),
        **{name: nan_mean(of_cases) for name, of_cases in values.items() if name not in doubts},
        **{f"dice_by_{name}": rank_correlation(values[name], dice) for name in doubts},
        "reliability": {
            "voxels": bins[:, 0].tolist(),
            "confidence": bins[:, 1].tolist(),
            "right": bins[:, 2].tolist(),
        },
        "risk": {
            "coverage": COVERAGES.tolist(),
            **{
                name: np.mean([case.risks[name] for case in cases], axis=0).tolist()
                for name in cases[0].risks
            },
        },
    }


def region(truth: np.ndarray) -> tuple[slice, ...]:
    """Box around the foreground with a margin of 8 voxels; the whole image if there is none."""
    foreground = np.nonzero(truth)
    if not len(foreground[0]):
        return (slice(None),) * truth.ndim
    return tuple(
        slice(max(0, int(axis.min()) - _MARGIN), int(axis.max()) + _MARGIN + 1)
        for axis in foreground
    )


def reliability(sure: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Reliability diagram: voxels in bins of their largest probability, `[N], [N] -> [BINS, 3]`.

    Args:
        sure: largest probability of each voxel, `[N]`.
        right: whether that class is correct, `[N]`.

    Returns:
        For each bin: number of voxels, sum of their largest probabilities, number of correct
        voxels.
    """
    bin_of = np.minimum((sure * BINS).astype(int), BINS - 1)
    return np.stack(
        [
            np.bincount(bin_of, weight, BINS)
            for weight in (np.ones_like(sure), sure, right.astype(float))
        ],
        axis=1,
    )


def calibration_error(bins: np.ndarray) -> float:
    """Expected calibration error of a reliability diagram `[BINS, 3]`.

    It is the mean absolute difference of confidence and accuracy over the bins, weighted by their
    numbers of voxels.
    """
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / bins[:, 0].sum())


def by_doubt(doubt: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of voxels and of wrong voxels for each value of doubt, `[N], [N] -> [D], [D]`.

    The D distinct values are in ascending order. `risk_coverage` and `detection` share this one
    sort, because a picture has a million voxels.
    """
    order = np.argsort(doubt)
    rising = doubt[order]
    first = np.flatnonzero(np.concatenate([[True], rising[1:] != rising[:-1]]))
    return np.diff(first, append=len(doubt)), np.add.reduceat(wrong[order].astype(int), first)


def risk_coverage(voxels: np.ndarray, wrongs: np.ndarray) -> np.ndarray:
    """Share of wrong voxels among the n most certain ones, for each n from 1 to N, `[N]`.

    This is the risk-coverage curve of Geifman & El-Yaniv, NeurIPS 2017. Voxels of equal doubt have
    no order: each counts as their mean.

    Args:
        voxels: number of voxels for each value of doubt, `[D]`, see `by_doubt`.
        wrongs: number of wrong voxels among them, `[D]`.
    """
    return np.cumsum(np.repeat(wrongs / voxels, voxels)) / np.arange(1, voxels.sum() + 1)


def detection(voxels: np.ndarray, wrongs: np.ndarray) -> float:
    """Area under the ROC curve for detecting wrong voxels by their doubt.

    It is the probability that a wrong voxel has more doubt than a correct one; equal doubt counts
    half. NaN if there is no such pair. The arguments are those of `risk_coverage`.
    """
    rights = voxels - wrongs
    pairs = int(wrongs.sum()) * int(rights.sum())
    rights_below = np.cumsum(rights) - rights / 2
    return float((wrongs * rights_below).sum() / pairs) if pairs else float("nan")
