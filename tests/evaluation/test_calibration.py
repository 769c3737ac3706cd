"""Calibration and risk against scikit-learn, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from cdal.evaluation.calibration import (
    BINS,
    by_doubt,
    calibration_error,
    certainty,
    detection,
    entropy,
    fit_temperature,
    region,
    reliability,
    risk_coverage,
)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)


@pytest.mark.parametrize("classes", [2, 4])
def test_likelihood_and_brier_are_those_of_scikit_learn(classes: int):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, (12, 14))
    probability = softmax(rng.normal(size=(classes, 12, 14)))
    found = certainty(probability.astype(np.float32), None, truth).scores
    flat = probability.reshape(classes, -1).T
    assert found["nll"] == pytest.approx(
        log_loss(truth.ravel(), flat, labels=range(classes)), rel=1e-5
    )
    one_hot = np.eye(classes)[truth.ravel()]
    assert found["brier"] == pytest.approx(((flat - one_hot) ** 2).sum(axis=1).mean(), rel=1e-5)
    if classes == 2:
        assert found["brier"] == pytest.approx(
            2 * brier_score_loss(truth.ravel(), flat[:, 1]), rel=1e-5
        )
    wrong = probability.argmax(axis=0) != truth
    assert found["auroc"] == pytest.approx(
        roc_auc_score(wrong.ravel(), entropy(probability).ravel()), rel=1e-4
    )


def test_the_calibration_error_by_hand():
    sure = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    bins = reliability(sure, right)
    assert bins.shape == (BINS, 3)
    assert bins[:, 0].sum() == 6
    # four voxels at 0.95 of which 0.75 are right, two at 0.55 of which 0.5 are
    assert calibration_error(bins) == pytest.approx((4 * 0.2 + 2 * 0.05) / 6)
    assert reliability(np.ones(3), np.ones(3, bool))[-1].tolist() == [3, 3, 3]


def test_what_is_drawn_as_its_probability_says_is_calibrated():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 200_000)
    truth = (rng.uniform(0, 1, p.size) < p).astype(int)
    sure, right = np.maximum(p, 1 - p), (p > 0.5) == (truth == 1)
    assert calibration_error(reliability(sure, right)) < 0.01
    assert calibration_error(reliability(np.sqrt(sure), right)) > 0.05


@pytest.mark.parametrize("raters", [1, 3])
def test_the_temperature_that_was_taken_away_is_found_again(raters: int):
    """Classes drawn by the softmax of logits; a segmenter twice as sure as that needs a temperature
    of 2.
    """
    rng = np.random.default_rng(0)
    cases = []
    for _ in range(4):
        logits = rng.normal(scale=1.5, size=(3, 60, 60))
        classes = (rng.uniform(size=(raters, 1, 60, 60)) > softmax(logits).cumsum(axis=0)).sum(
            axis=1
        )
        cases.append((softmax(2 * logits), classes))
    assert fit_temperature(cases) == pytest.approx(2.0, abs=0.06)


def test_the_fitted_temperature_has_the_least_likelihood_that_scikit_learn_knows():
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=3, size=(2, 30, 30))
    probability, truth = (
        softmax(logits),
        (rng.uniform(size=(1, 30, 30)) > softmax(logits / 3)[0]).astype(int),
    )

    def likelihood(temperature: float) -> float:
        tempered = softmax(np.log(probability) / temperature)
        return log_loss(truth.ravel(), tempered.reshape(2, -1).T, labels=[0, 1])

    found = fit_temperature([(probability, truth)])
    assert (
        likelihood(found)
        <= min(likelihood(temperature) for temperature in np.linspace(0.25, 4, 151)) + 1e-6
    )


def test_risk_and_coverage_by_hand():
    doubt, wrong = np.array([0.1, 0.4, 0.2, 0.3]), np.array([False, True, False, True])
    np.testing.assert_allclose(risk_coverage(*by_doubt(doubt, wrong)), [0, 0, 1 / 3, 2 / 4])
    np.testing.assert_allclose(risk_coverage(*by_doubt(np.zeros(4), wrong)), [0.5] * 4)  # no order


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
@settings(max_examples=50)
def test_errors_are_found_as_scikit_learn_says(rows: list[tuple[int, bool]]):
    doubt, wrong = (np.array(column) for column in zip(*rows, strict=True))
    voxels, wrongs = by_doubt(doubt, wrong)
    assert voxels.tolist() == np.unique(doubt, return_counts=True)[1].tolist()
    if wrong.all() or not wrong.any():
        assert math.isnan(detection(voxels, wrongs))
    else:
        assert detection(voxels, wrongs) == pytest.approx(roc_auc_score(wrong, doubt))
    curve = risk_coverage(voxels, wrongs)
    assert curve[-1] == pytest.approx(wrong.mean())
    # the best order there can be, and the worst
    best, worst = (
        np.cumsum(np.sort(wrong)[::way]) / np.arange(1, len(wrong) + 1) for way in (1, -1)
    )
    assert best.mean() - 1e-12 <= curve.mean() <= worst.mean() + 1e-12


def test_the_box_is_around_the_foreground():
    truth = np.zeros((40, 60, 50), int)
    truth[20, 30:32, 3] = 1
    assert region(truth) == (slice(12, 29), slice(22, 40), slice(0, 12))
    assert region(np.zeros((4, 5), int)) == (slice(None), slice(None))


def test_far_background_changes_nothing_but_the_doubt():
    rng = np.random.default_rng(0)
    truth = np.zeros((64, 64), int)
    truth[28:36, 28:36] = 1
    probability = softmax(rng.normal(size=(2, 64, 64)))
    probability[:, :5] = np.array([0.9, 0.1])[:, None, None]
    spread = rng.uniform(size=(64, 64))
    one = certainty(probability, spread, truth)
    sure = probability.copy()
    sure[:, :5] = np.array([1.0, 0.0])[:, None, None]
    other = certainty(sure, spread, truth)
    np.testing.assert_array_equal(one.bins, other.bins)
    doubts = {"doubt", "doubt_spread"}
    assert {k: v for k, v in one.scores.items() if k not in doubts} == {
        k: v for k, v in other.scores.items() if k not in doubts
    }
    assert other.scores["doubt"] < one.scores["doubt"]
    assert one.scores["auroc_spread"] == pytest.approx(0.5, abs=0.1)
    assert set(one.risks) == {"entropy", "spread"}
