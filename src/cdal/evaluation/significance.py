"""Paired significance tests of two systems on the same cases, corrected for multiple testing.

The functions take NumPy arrays with one number for each case (or fold), in the same order. All
tests are two-sided.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def wilcoxon(ours: np.ndarray, theirs: np.ndarray) -> float:
    """p-value of Wilcoxon's signed-rank test.

    1 if no pair differs; NaN with fewer than two pairs.
    """
    ours, theirs = _pairs(ours, theirs)
    if len(ours) < 2:
        return float("nan")
    if (ours == theirs).all():
        return 1.0
    return float(stats.wilcoxon(ours, theirs).pvalue)


def permutation(
    ours: np.ndarray, theirs: np.ndarray, resamples: int = 9999, seed: int = 0
) -> float:
    """p-value of the paired permutation test of the mean difference.

    A permutation swaps the two values of some pairs. The test is exact if there are at most
    `resamples` permutations. The result is NaN with fewer than two pairs.

    Args:
        ours: values of the first system.
        theirs: values of the second system.
        resamples: greatest number of permutations.
        seed: random seed of the permutations.
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
    """p-value of the paired t-test, which the paper uses over folds.

    NaN with fewer than two pairs, or if all pairs have the same difference.
    """
    ours, theirs = _pairs(ours, theirs)
    if len(ours) < 2 or np.ptp(ours - theirs) == 0:
        return float("nan")
    return float(stats.ttest_rel(ours, theirs).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm, Scandinavian Journal of Statistics 1979).

    NaN stays NaN and is not counted as a test.
    """
    p = np.asarray(p_values, float)
    corrected = np.full(len(p), np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[i]))
        corrected[i] = highest
    return [float(value) for value in corrected]


def _pairs(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs in which neither value is NaN.

    Raises:
        ValueError: the arrays differ in shape.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape:
        raise ValueError(
            f"paired tests need as many numbers of both; there are {ours.shape} and {theirs.shape}."
        )
    known = ~(np.isnan(ours) | np.isnan(theirs))
    return ours[known], theirs[known]
