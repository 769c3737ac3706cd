"""Whether a segmentation knows how sure it may be. Plain arrays in, plain numbers out; nothing here knows a network.

All is taken over a box around the true foreground (`region`), as far background, where every system is right and sure, would
make any calibration look perfect (Mehrtash et al., IEEE TMI 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from cdal.evaluation.metrics import nan_mean, rank_correlation
from cdal.inference.decision import LEAST

BINS = 15
"""Of the reliability diagram, of equal width (Guo et al., ICML 2017)."""

COVERAGES = np.linspace(0.05, 1, 20)
"""Where the risk-coverage curve is told."""

_MARGIN = 8
TEMPERATURES = (0.25, 4.0)
"""Between which one is fitted."""

_FITTED = 2**15
"""Voxels of a case, at even distances, by which a temperature is fitted."""


@dataclass(frozen=True)
class Certainty:
    """How sure a segmentation was of one case, and how far it was right.

    Attributes:
        scores: `nll` (mean negative log-likelihood of the true class, in nats), `brier` (mean squared distance of the probabilities
            from the one-hot truth, summed over classes: 0 to 2), and, by the entropy of the mean probability and, with `_spread`,
            by the spread of the votes: `aurc` (area under the risk-coverage curve) and `auroc` (how well wrong voxels are told
            from right ones, 0.5 is chance), and `doubt` (its sum over the whole image, for each voxel segmented as foreground).
        bins: `[BINS, 3]`: voxels, sum of the largest probability, voxels that were right, by that probability.
        risks: by `entropy` and `spread`, the share of wrong voxels among the surest at each of `COVERAGES`.
    """

    scores: dict[str, float]
    bins: np.ndarray
    risks: dict[str, np.ndarray]


def certainty(probability: np.ndarray, uncertainty: np.ndarray | None, truth: np.ndarray) -> Certainty:
    """Measure one case.

    Args:
        probability: `[K, *S]`, the mean over the votes.
        uncertainty: `[*S]`, the spread of the votes; none where there is one vote.
        truth: `[*S]` of classes.
    """
    inside = region(truth)
    everywhere = {"entropy": entropy(probability)} | ({} if uncertainty is None else {"spread": uncertainty})
    p = np.stack([one[inside].reshape(-1) for one in probability]).astype(np.float64)
    p, y = p / p.sum(axis=0), truth[inside].reshape(-1)
    wrong = p.argmax(axis=0) != y
    of_truth = np.take_along_axis(p, y[None].astype(int), axis=0)[0]
    scores = {
        "nll": float(-np.log(np.maximum(of_truth, LEAST)).mean()),
        "brier": float(((p**2).sum(axis=0) - 2 * of_truth + 1).mean()),
    }
    foreground = max(1, int((probability.argmax(axis=0) > 0).sum()))
    risks = {}
    for name, doubt in everywhere.items():
        suffix = "" if name == "entropy" else f"_{name}"
        voxels, wrongs = by_doubt(doubt[inside].reshape(-1), wrong)
        curve = risk_coverage(voxels, wrongs)
        scores[f"aurc{suffix}"] = float(curve.mean())
        scores[f"auroc{suffix}"] = detection(voxels, wrongs)
        scores[f"doubt{suffix}"] = float(doubt.sum(dtype=np.float64)) / foreground
        risks[name] = curve[np.maximum(0, np.round(COVERAGES * len(curve)).astype(int) - 1)]
    return Certainty(scores, reliability(p.max(axis=0), ~wrong), risks)


def fit_temperature(cases: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The temperature (`cdal.inference.decision.temper`) of the least negative log-likelihood, mean over cases and annotators.

    Args:
        cases: of each the probabilities `[K, *S]` and the annotators' classes `[R, *S]`.
    """
    fitted = []
    for probability, raters in cases:
        inside = region(raters.max(axis=0))
        p, y = (np.stack([one[inside].reshape(-1) for one in all_of]) for all_of in (probability, raters))
        some = np.linspace(0, p.shape[1] - 1, min(p.shape[1], _FITTED)).astype(int)
        fitted.append((np.log(np.maximum(p[:, some], LEAST)), y[:, some].astype(int)))

    def likelihood(temperature: float) -> float:
        return float(np.mean([_likelihood(logarithms / temperature, y) for logarithms, y in fitted]))

    return float(minimize_scalar(likelihood, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-3}).x)


def _likelihood(logits: np.ndarray, raters: np.ndarray) -> float:
    """The mean negative log-likelihood of the classes `[R, N]` by `[K, N]`."""
    return float((logsumexp(logits, axis=0) - np.take_along_axis(logits, raters, axis=0)).mean())


def summary_of(cases: Sequence[Certainty], dice: np.ndarray) -> dict[str, Any]:
    """Means over cases; the calibration error and its reliability diagram over all voxels together.

    Args:
        cases: what `certainty` found of each.
        dice: of each.

    Returns:
        The scores, `ece`, as `dice_by_doubt` the rank correlation of Dice and doubt, and what the curves are made of:
        `reliability` and `risk`. A score that no case has is NaN.
    """
    bins = np.sum([case.bins for case in cases], axis=0)
    values = {name: np.array([case.scores[name] for case in cases]) for name in cases[0].scores}
    told = {"ece": calibration_error(bins)}
    told |= {name: nan_mean(of_cases) for name, of_cases in values.items() if not name.startswith("doubt")}
    told |= {f"dice_by_{name}": rank_correlation(found, dice) for name, found in values.items() if name.startswith("doubt")}
    return {
        **told,
        "reliability": {"voxels": bins[:, 0].tolist(), "confidence": bins[:, 1].tolist(), "right": bins[:, 2].tolist()},
        "risk": {
            "coverage": COVERAGES.tolist(),
            **{name: np.mean([case.risks[name] for case in cases], axis=0).tolist() for name in cases[0].risks},
        },
    }


def entropy(probability: np.ndarray) -> np.ndarray:
    """Of the classes' probabilities, in nats, `[K, *S] -> [*S]`."""
    return -(probability * np.log(np.maximum(probability, LEAST))).sum(axis=0)


def region(truth: np.ndarray) -> tuple[slice, ...]:
    """The box around the foreground and 8 voxels more on every side; everything where there is none."""
    where = np.nonzero(truth)
    if not len(where[0]):
        return (slice(None),) * truth.ndim
    return tuple(slice(max(0, int(axis.min()) - _MARGIN), int(axis.max()) + _MARGIN + 1) for axis in where)


def reliability(sure: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Voxels, sum of their largest probability, and how many of them are right, in bins of that probability, `[BINS, 3]`."""
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    return np.stack([np.bincount(place, weight, BINS) for weight in (np.ones_like(sure), sure, right.astype(float))], axis=1)


def calibration_error(bins: np.ndarray) -> float:
    """Expected calibration error: the mean distance of confidence from accuracy over the bins, weighed by their voxels."""
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / bins[:, 0].sum())


def by_doubt(doubt: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and wrong voxels of each doubt that occurs, the smallest first, `[N], [N] -> [D], [D]`.

    One sort is the cost of both measures below: a picture has a million voxels.
    """
    order = np.argsort(doubt)
    rising = doubt[order]
    first = np.flatnonzero(np.concatenate([[True], rising[1:] != rising[:-1]]))
    return np.diff(first, append=len(doubt)), np.add.reduceat(wrong[order].astype(int), first)


def risk_coverage(voxels: np.ndarray, wrongs: np.ndarray) -> np.ndarray:
    """The share of wrong voxels among the n surest, for each n from 1 to all N (Geifman & El-Yaniv, NeurIPS 2017), `[N]`.

    Voxels of equal doubt are taken in no order: each counts as the mean of them.

    Args:
        voxels: `[D]`, see `by_doubt`.
        wrongs: `[D]`.
    """
    return np.cumsum(np.repeat(wrongs / voxels, voxels)) / np.arange(1, voxels.sum() + 1)


def detection(voxels: np.ndarray, wrongs: np.ndarray) -> float:
    """The area under the ROC curve of finding wrong voxels by their doubt; arguments as those of `risk_coverage`.

    That is the chance that a wrong voxel has more doubt than a right one, equal doubt counting half; NaN without such pairs.
    """
    rights = voxels - wrongs
    pairs = int(wrongs.sum()) * int(rights.sum())
    less = np.cumsum(rights) - rights / 2
    return float((wrongs * less).sum() / pairs) if pairs else float("nan")
