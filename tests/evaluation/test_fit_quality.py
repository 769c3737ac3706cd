"""Fitting the quality of a case, against NumPy and the theorem of split conformal prediction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cdal.evaluation.fit_quality import Known, fit_quality
from cdal.inference.quality import Line


def case(expected: float, dice: float, hd95: float = 2.0, volume: float = 100.0) -> dict:
    return {"a": Known(expected, dice, hd95, volume, volume * (0.5 + expected / 2))}


def cases_of(n: int, seed: int, slope: float = 0.8) -> list[dict]:
    rng = np.random.default_rng(seed)
    signs = rng.uniform(0.6, 1.0, n)
    truths = 0.1 + slope * signs + rng.normal(0, 0.03, n)
    return [case(e, d) for e, d in zip(signs, truths, strict=True)]


def line_of(cases: list[dict]) -> Line:
    return fit_quality(cases, ("a",), {}).classes["a"].dice


def test_the_line_is_least_squares_on_one_half_and_the_residuals_are_the_others():
    known = cases_of(60, 0)
    line = line_of(known)
    order = np.random.default_rng(0).permutation(60)
    x, y = np.array([known[i]["a"][:2] for i in order]).T
    slope, intercept = np.polyfit(x[:30], y[:30], 1)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept), abs=1e-5)
    residuals = np.sort(np.abs(y[30:] - (intercept + slope * x[30:])))
    np.testing.assert_allclose(line.residuals, residuals, atol=2e-5)


def test_a_line_never_falls():
    line = line_of(cases_of(60, 1, slope=-1.0))
    assert line.slope == 0


@pytest.mark.parametrize(("n", "slope", "residuals"), [(8, 1, 8), (17, 1, 17), (18, 1, 9)])
def test_few_cases_fit_less(n: int, slope: float, residuals: int):
    line = line_of(cases_of(n, 2))
    assert line.slope == slope and len(line.residuals) == residuals
    assert (line.intercept == 0) == (n < 18)
    assert (line.margin() is None) == (residuals < 9)


def test_new_cases_of_the_same_kind_are_covered():
    """Over many fits: at least 90 %, and with 20 residuals about 19 of 21."""
    covered = []
    for seed in range(300):
        known = cases_of(50, seed)
        line = line_of(known[:40])
        covered += [
            abs(new["a"].dice - line.at(new["a"].expected)) <= line.margin() for new in known[40:]
        ]
    assert 0.885 < np.mean(covered) < 0.935


def test_volumes_are_relative_and_leave_out_empty_masks():
    known = [case(0.9, 0.9, volume=v) for v in (0.0, 100.0, 200.0)]
    assert fit_quality(known, ("a",), {}).classes["a"].volume == pytest.approx((0.05, 0.05))


def test_cases_without_a_distance_are_left_out():
    assert fit_quality([case(0.9, 0.9, math.nan)] * 5, ("a",), {}).classes["a"].hd95 is None
    known = [case(0.9, 0.9, math.nan), *[case(0.9, 0.9, math.e)] * 40]
    line = fit_quality(known, ("a",), {}).classes["a"].hd95
    assert line.at(math.log(0.1)) == pytest.approx(1.0) and max(line.residuals) < 1e-4


def test_the_constant_interval_is_that_of_the_mean():
    known = cases_of(40, 5)
    order = np.random.default_rng(0).permutation(40)
    dice = np.array([known[i]["a"].dice for i in order])
    far = np.sort(np.abs(dice[20:] - dice[:20].mean()))
    fitted = fit_quality(known, ("a",), {}).classes["a"]
    assert fitted.constant == pytest.approx(2 * far[math.ceil(21 * 0.9) - 1], abs=1e-4)
