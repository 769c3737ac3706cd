"""Split conformal prediction against its theorem."""

from __future__ import annotations

import numpy as np
import pytest

from cdal.inference.conformal import fewest, quantile


@pytest.mark.parametrize("n", [9, 30, 100])
def test_new_residuals_are_covered_as_the_theorem_says(n: int):
    """P(new <= quantile) = ceil((n + 1) level) / (n + 1) for residuals without ties, whatever
    their distribution.
    """
    draws = 4000
    rng = np.random.default_rng(n)
    residuals = rng.exponential(size=(draws, n + 1)) ** 2
    covered = np.mean([row[-1] <= quantile(list(row[:-1]), 0.9) for row in residuals])
    expected = np.ceil((n + 1) * 0.9) / (n + 1)
    assert abs(covered - expected) < 3 * np.sqrt(expected * (1 - expected) / draws)


@pytest.mark.parametrize("n", [9, 10, 19, 57])
def test_the_quantile_is_that_of_numpy(n: int):
    residuals = np.random.default_rng(n).normal(size=n)
    share = np.ceil((n + 1) * 0.9) / n
    assert quantile(list(residuals), 0.9) == np.quantile(residuals, share, method="inverted_cdf")


def test_too_few_residuals_give_no_interval():
    assert fewest(0.9) == 9 and fewest(0.95) == 19 and fewest(0.5) == 1
    assert quantile([1.0] * 8, 0.9) is None and quantile([], 0.9) is None
    assert quantile([1.0] * 9, 0.9) == 1.0


def test_ties_count_each():
    assert quantile([0.0] * 8 + [5.0] * 2, 0.8) == 5.0
    assert quantile([0.0] * 8 + [5.0] * 2, 0.7) == 0.0
