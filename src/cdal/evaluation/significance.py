"""Whether one system is better than another on the same cases: paired tests, intervals, and the correction for testing often.

Plain arrays in, plain numbers out; every array has one number for each case (or fold), in the same order. All tests are two-sided.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def wilcoxon(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The p of Wilcoxon's signed-rank test; 1 where no pair differs, NaN with fewer than two pairs."""
    ours, theirs = _pairs(ours, theirs)
    if len(ours) < 2:
        return float("nan")
    if (ours == theirs).all():
        return 1.0
    return float(stats.wilcoxon(ours, theirs).pvalue)


def permutation(ours: np.ndarray, theirs: np.ndarray, resamples: int = 9999, seed: int = 0) -> float:
    """The p of the permutation test of the mean difference, which swaps the two of a pair; NaN with fewer than two pairs.

    Exact where there are no more ways to swap than `resamples`.
    """
    ours, theirs = _pairs(ours, theirs)
    if len(ours) < 2:
        return float("nan")

    def mean_difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        difference: np.ndarray = np.mean(a - b, axis=axis)
        return difference

    result = stats.permutation_test(
        (ours, theirs),
        mean_difference,
        permutation_type="samples",
        n_resamples=resamples,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def paired_t(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The p of the paired t-test, which the paper takes over folds; NaN with fewer than two pairs, or if all differ by the same."""
    ours, theirs = _pairs(ours, theirs)
    if len(ours) < 2 or np.ptp(ours - theirs) == 0:
        return float("nan")
    return float(stats.ttest_rel(ours, theirs).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm, Scandinavian Journal of Statistics 1979); NaN stays NaN and counts as no test."""
    p = np.asarray(p_values, float)
    corrected = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[i]))
        corrected[i] = highest
    return [float(value) for value in corrected]


def _pairs(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of which neither is NaN.

    Raises:
        ValueError: there are not as many of the one as of the other.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape:
        raise ValueError(f"paired tests need as many numbers of both; there are {ours.shape} and {theirs.shape}.")
    there = ~(np.isnan(ours) | np.isnan(theirs))
    return ours[there], theirs[there]
