"""Scores against scikit-learn, MONAI, plain loops and hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_dice, compute_iou
from scipy import ndimage
from scipy.spatial import cKDTree
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from cdal.evaluation.metrics import bootstrap_interval, case_scores, count, surface_distances

MASKS = arrays(bool, (6, 7), elements=st.booleans())


@given(MASKS, MASKS)
def test_overlap_scores_are_those_of_scikit_learn_and_monai(
    prediction: np.ndarray, truth: np.ndarray
):
    counts = count(prediction, truth)
    if not prediction.any() and not truth.any():
        assert (counts.dice, counts.iou, counts.precision, counts.recall) == (1, 1, 1, 1)
        return
    y, p = truth.ravel(), prediction.ravel()
    assert counts.dice == pytest.approx(f1_score(y, p, zero_division=0))
    assert counts.iou == pytest.approx(jaccard_score(y, p, zero_division=0))
    assert counts.precision == pytest.approx(precision_score(y, p, zero_division=0))
    assert counts.recall == pytest.approx(recall_score(y, p, zero_division=0))
    if truth.any():
        pair = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
        assert counts.dice == pytest.approx(float(compute_dice(*pair)))
        assert counts.iou == pytest.approx(float(compute_iou(*pair)))


def test_masks_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="equal shapes"):
        count(np.zeros((2, 3)), np.zeros((3, 2)))


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal((18, 20, 16)), 2.5) for _ in range(2)]
    return fields[0] > 0.05, fields[0] + 0.5 * fields[1] > 0.06


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.0)])
def test_surface_distances_are_those_of_a_plain_search(seed: int, spacing: tuple[float, ...]):
    masks = blobs(seed)
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing for mask in masks]
    there = cKDTree(points[1]).query(points[0])[0]
    back = cKDTree(points[0]).query(points[1])[0]
    hd95, assd = surface_distances(*masks, spacing)
    assert hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-4)
    assert assd == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-4)


def test_distances_need_two_surfaces():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert all(
        math.isnan(d)
        for pair in ((empty, full), (full, empty), (empty, empty))
        for d in surface_distances(*pair, (1, 1))
    )


def test_case_scores_leave_the_background_out():
    truth = np.array([[0, 1, 1], [2, 2, 0]])
    scores = case_scores(truth, truth, ("background", "a", "b"), (1.0, 1.0))
    assert set(scores) == {"a", "b"}
    assert all(
        s == pytest.approx(v)
        for one in scores.values()
        for s, v in zip(one.values(), (1, 1, 1, 1, 0, 0), strict=True)
    )


def test_bootstrap_interval_is_near_the_normal_one():
    values = np.random.default_rng(0).normal(0.8, 0.1, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.003)
    assert bootstrap_interval(np.array([0.3, 0.3, np.nan])) == (0.3, 0.3)
    assert math.isnan(bootstrap_interval(np.array([0.3]))[0])
