"""Paired tests against SciPy on fixed numbers, enumeration by hand, and properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cdal.evaluation.significance import holm, paired_t, permutation, wilcoxon

OURS = np.array([0.91, 0.88, 0.85, 0.90, 0.79, 0.93, 0.87, 0.84])
THEIRS = np.array([0.89, 0.885, 0.80, 0.86, 0.80, 0.90, 0.83, 0.81])


def test_wilcoxon_is_scipys_of_the_differences():
    assert wilcoxon(OURS, THEIRS) == pytest.approx(stats.wilcoxon(OURS - THEIRS).pvalue)


def test_wilcoxon_of_five_pairs_that_all_differ_the_same_way_is_two_in_thirty_two():
    assert wilcoxon(np.array([2.0, 3, 4, 5, 6]), np.array([1.0, 1, 1, 1, 1])) == pytest.approx(
        2 / 2**5
    )


def test_permutation_of_few_pairs_is_exact():
    difference = OURS - THEIRS
    signs = np.array(list(itertools.product((1, -1), repeat=len(difference))))
    means = (signs * difference).mean(axis=1)
    assert permutation(OURS, THEIRS) == pytest.approx(
        (np.abs(means) >= abs(difference.mean()) - 1e-12).mean()
    )


def test_permutation_of_many_pairs_comes_near_the_t_test(rng_values: tuple[np.ndarray, np.ndarray]):
    ours, theirs = rng_values
    assert permutation(ours, theirs) == pytest.approx(
        stats.ttest_rel(ours, theirs).pvalue, abs=0.02
    )


@pytest.fixture
def rng_values() -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(3).normal(size=(2, 60))
    return draws[0] + 0.25, draws[1]


def test_the_t_test_over_folds_is_the_textbooks():
    ours, theirs = np.array([0.881, 0.879, 0.883, 0.880]), np.array([0.878, 0.877, 0.880, 0.876])
    difference = ours - theirs
    t = difference.mean() / (difference.std(ddof=1) / np.sqrt(4))
    assert paired_t(ours, theirs) == pytest.approx(2 * stats.t.sf(abs(t), df=3))


@pytest.mark.parametrize("test", [wilcoxon, permutation])
def test_no_difference_is_no_evidence(test):
    assert test(OURS, OURS) == 1.0


def test_a_t_test_that_says_nothing_is_nan():
    assert np.isnan(paired_t(OURS[:1], THEIRS[:1]))
    assert np.isnan(paired_t(OURS, OURS - 0.25))


@pytest.mark.parametrize("test", [wilcoxon, permutation, paired_t])
def test_pairs_of_which_one_is_missing_are_left_out(test):
    ours, theirs = np.append(OURS, [np.nan, 0.5]), np.append(THEIRS, [0.5, np.nan])
    assert test(ours, theirs) == pytest.approx(test(OURS, THEIRS))


@pytest.mark.parametrize("test", [wilcoxon, permutation, paired_t])
def test_unequal_numbers_are_refused(test):
    with pytest.raises(ValueError, match="as many numbers"):
        test(OURS, THEIRS[:-1])


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04, times 4 3 2 1: .04 .06 .06 .04, and never less than the one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p: list[float]):
    corrected = holm(p)
    assert all(
        value <= new <= min(1.0, len(p) * value) + 1e-12
        for value, new in zip(p, corrected, strict=True)
    )
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= -1e-12).all()


def test_holm_counts_what_was_not_tested_as_no_test():
    corrected = holm([0.02, float("nan"), 0.04])
    assert corrected[0] == pytest.approx(0.04)
    assert np.isnan(corrected[1])
