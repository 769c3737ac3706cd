"""How well a segmentation expects to agree with the truth: by hand, and in bands."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cdal.inference.doubt import Doubt


def doubt_of(foreground: list[float]) -> Doubt:
    p = np.array(foreground)
    doubt = Doubt(2)
    doubt.take(np.stack([1 - p, p]))
    return doubt


def test_expected_dice_by_hand():
    # The mask has the voxels 0.9 and 0.6: 2 * 1.5 / (2 + 1.8).
    assert doubt_of([0.9, 0.6, 0.3, 0.0]).expected_dice == pytest.approx([3 / 3.8])
    assert doubt_of([1.0, 1.0, 0.0]).expected_dice == pytest.approx([1])


def test_an_empty_mask_is_right_as_far_as_the_class_is_absent():
    assert doubt_of([0.2, 0.1, 0.0]).expected_dice == pytest.approx([0.8])
    # Whatever a large picture's smallest probabilities add up to.
    assert doubt_of([1e-6] * 3_000_000).expected_dice == pytest.approx([1], abs=1e-5)


def test_classes_each_have_their_own():
    p = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.2], [0.3, 0.5, 0.1]])
    doubt = Doubt(3)
    doubt.take(p)  # classes 1, 2, 0
    assert doubt.expected_dice == pytest.approx([2 * 0.6 / (1 + 1.1), 2 * 0.5 / (1 + 0.9)])
    assert doubt.entropy == pytest.approx(stats.entropy(p, axis=0).mean())
    assert doubt.shares == pytest.approx([1.1 / 3, 0.9 / 3])


def test_bands_add_up_to_the_image():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=(20, 8, 6)).transpose(3, 0, 1, 2).astype(np.float32)
    whole, banded = Doubt(3), Doubt(3)
    whole.take(p)
    for start in range(0, 20, 7):
        banded.take(p[:, start : start + 7])
    np.testing.assert_allclose(banded.expected_dice, whole.expected_dice, rtol=1e-12)
    assert banded.entropy == pytest.approx(whole.entropy, rel=1e-6)
    mask = p.argmax(axis=0)
    for k in (1, 2):
        inside, total = p[k][mask == k].sum(dtype=float), p[k].sum(dtype=float)
        expected = 2 * inside / ((mask == k).sum() + total)
        assert whole.expected_dice[k - 1] == pytest.approx(expected)
