"""Votes against several annotators: hand-computed masks, every matching tried, properties."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage, stats

from cdal.evaluation.agreement import (
    agreement,
    border,
    disagreement_correlation,
    distances,
    diversity_agreement,
    empty_shares,
    generalised_energy_distance,
    majority,
    matched_iou,
)

MASKS = arrays(np.uint8, (3, 4, 4), elements=st.integers(0, 2))


def test_energy_distance_of_hand_computed_masks():
    one = np.array([[1, 1, 0, 0]])
    two = np.array([[0, 1, 1, 0]])  # IoU 1/3, so d = 2/3
    same = generalised_energy_distance(np.stack([one, two]), np.stack([one, two]), 2)
    assert same == pytest.approx(0)
    # 2 E d(vote, rater) = 2 * 1/3; votes agree; raters: half of the ordered pairs differ.
    assert generalised_energy_distance(one[None], np.stack([one, two]), 2) == pytest.approx(
        2 / 3 - 1 / 3
    )
    assert generalised_energy_distance(one[None], two[None], 2) == pytest.approx(4 / 3)


@given(arrays(np.uint8, (3, 4, 4), elements=st.integers(0, 2)))
@settings(max_examples=30)
def test_energy_distance_to_oneself_is_zero_and_never_negative(masks: np.ndarray):
    assert generalised_energy_distance(masks, masks, 3) == pytest.approx(0, abs=1e-12)
    assert generalised_energy_distance(masks[:1], masks, 3) >= -1e-12


def test_border_is_within_reach_of_an_annotators_edge():
    mask = np.zeros((1, 30, 30), np.uint8)
    mask[0, 10:20, 10:20] = 1
    near = border(mask, width=3)
    inside = ndimage.distance_transform_cdt(mask[0], "taxicab")
    outside = ndimage.distance_transform_cdt(1 - mask[0], "taxicab")
    np.testing.assert_array_equal(near, np.where(mask[0] > 0, inside, outside) <= 3)


def test_correlation_is_spearmans_over_the_border():
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.standard_normal((40, 40)), 4)
    raters = np.stack([field > level for level in np.linspace(-0.05, 0.05, 5)]).astype(np.uint8)
    uncertainty = rng.random((40, 40))
    where = border(raters)
    expected = stats.spearmanr(uncertainty[where], raters.std(axis=0)[where]).statistic
    assert disagreement_correlation(uncertainty, raters, 2) == pytest.approx(expected)
    assert disagreement_correlation(raters.std(axis=0), raters, 2) == pytest.approx(1)
    assert math.isnan(disagreement_correlation(np.zeros((40, 40)), raters, 2))


def test_matched_iou_and_diversity_of_hand_computed_masks():
    one, two, three = (
        np.array([row]) for row in ([1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1])
    )  # IoU of neighbours 1/3, of ends 0
    pair = np.stack([one, three])
    assert matched_iou(pair[::-1], pair, 2) == pytest.approx(1)
    assert matched_iou(np.stack([two]), pair, 2) == pytest.approx(1 / 3)
    # Two votes to three annotators, each vote thrice and each annotator twice: two and two meet
    # their like, the others meet `two`.
    assert matched_iou(pair, np.stack([one, two, three]), 2) == pytest.approx((1 + 1 / 3 + 1) / 3)
    # Within the pair the distance is 1; within the three it is 2/3 at least and 1 at most.
    assert diversity_agreement(pair, np.stack([one, two, three]), 2) == pytest.approx(
        1 - (1 / 3 + 0) / 2
    )
    assert diversity_agreement(one[None], pair, 2) == pytest.approx(
        0
    )  # one opinion where there are two that share nothing


@given(MASKS, MASKS)
@settings(max_examples=30)
def test_the_match_is_the_best_of_all(votes: np.ndarray, raters: np.ndarray):
    iou = 1 - distances(votes, raters, 3)
    best = max(
        np.mean([iou[i, j] for i, j in enumerate(order)])
        for order in itertools.permutations(range(3))
    )
    found = agreement(votes, raters, 3)
    assert found["matched_iou"] == pytest.approx(best)
    assert 0 <= found["diversity_agreement"] <= 1
    found = agreement(votes, votes, 3)
    assert found["empty_votes"] == pytest.approx(found["empty_annotators"], nan_ok=True)
    assert [found[name] for name in ("ged", "matched_iou", "diversity_agreement")] == pytest.approx(
        [0, 1, 1]
    )


def test_empty_votes_count_where_some_annotators_but_not_all_saw_nothing():
    empty, one, two = np.zeros(4, int), np.array([0, 1, 1, 0]), np.array([0, 2, 0, 1])
    raters = np.stack([empty, one, one, one])
    # One class: 3 of 5 votes are empty, and 1 of 4 annotators.
    votes = np.stack([empty, one, empty, one, empty])
    assert empty_shares(votes, raters, 2) == {"empty_votes": 0.6, "empty_annotators": 0.25}
    # All annotators saw something, or none did: votes do not count, empty or not.
    for agreed in (one, empty):
        shares = empty_shares(votes, np.stack([agreed] * 4), 2)
        assert all(math.isnan(share) for share in shares.values())
    # Class 1 is seen by all; class 2 by one of two annotators, and by one of three votes.
    shares = empty_shares(np.stack([one, two, empty]), np.stack([one, two]), 3)
    assert shares == pytest.approx({"empty_votes": 2 / 3, "empty_annotators": 1 / 2})
    # Both classes are disputed: the mean of (2/3, 1/2) for class 1 and of (2/3, 1/2) for class 2.
    shares = empty_shares(np.stack([one, 2 * one, empty]), np.stack([one, 2 * one]), 3)
    assert shares == pytest.approx({"empty_votes": 2 / 3, "empty_annotators": 1 / 2})
    both = np.stack([one, one, 2 * one, empty])
    shares = empty_shares(both, np.stack([one, 2 * one, 2 * one]), 3)
    assert shares == pytest.approx({"empty_votes": (2 / 4 + 3 / 4) / 2, "empty_annotators": 1 / 2})


def test_the_majority_is_the_class_most_chose():
    raters = np.array([[0, 1, 2, 1], [0, 1, 2, 0], [1, 2, 2, 2]])
    np.testing.assert_array_equal(majority(raters, 3), [0, 1, 2, 0])
