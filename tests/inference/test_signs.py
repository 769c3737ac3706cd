"""Signs of quality, against NumPy on the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cdal.inference.signs import Signs


def drawn(seed: int, classes: int = 3, votes: int = 5) -> np.ndarray:
    """Votes `[V, K, 12, 7]` of a random model."""
    logits = 3 * np.random.default_rng(seed).normal(size=(votes, classes, 12, 7))
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def signs_of(votes: np.ndarray, rows: int) -> Signs:
    signs = Signs(votes.shape[1])
    for top in range(0, votes.shape[2], rows):
        band = votes[:, :, top : top + rows]
        signs.see_votes(band)
        mean = band.mean(axis=0)
        signs.see_mask(mean.argmax(axis=0), mean)
    return signs


@pytest.mark.parametrize("rows", [1, 5, 12])
def test_sums_do_not_depend_on_the_bands(rows: int):
    votes = drawn(0)
    p, signs = votes.mean(axis=0).astype(np.float64), signs_of(votes, rows)
    mask = p.argmax(axis=0)
    for k in range(3):
        ours = 2 * p[k][mask == k].sum() / ((mask == k).sum() + p[k].sum())
        assert signs.expected_dice(k) == pytest.approx(ours)
        assert signs.variance[k] == pytest.approx((p[k] * (1 - p[k])).sum())
        assert signs.peak[k] == pytest.approx(p[k].max())
        assert signs.voxels[k] == (mask == k).sum()
        np.testing.assert_array_equal(signs.found[:, k], (votes.argmax(axis=1) == k).any((1, 2)))


def test_expected_dice_is_the_mean_dice_of_independent_voxels():
    """Truths are drawn voxel by voxel; the ratio of means is near the mean of ratios."""
    rng = np.random.default_rng(0)
    foreground = rng.random((60, 60)) ** 2
    p = np.stack([1 - foreground, foreground])
    signs = Signs(2)
    mask = p.argmax(axis=0)
    signs.see_mask(mask, p)
    truths = rng.random((200, 60, 60)) < foreground
    dice = [2 * (t & (mask == 1)).sum() / (t.sum() + (mask == 1).sum()) for t in truths]
    assert signs.expected_dice(1) == pytest.approx(np.mean(dice), abs=2e-3)
    assert np.sqrt(signs.variance[1]) == pytest.approx(truths.sum(axis=(1, 2)).std(), rel=0.15)


def test_of_an_empty_mask_the_share_of_empty_votes_counts():
    votes = np.zeros((4, 2, 3, 3), np.float32)
    votes[:, 0] = 1
    votes[0, :, 1, 1] = 0, 1
    assert signs_of(votes, 3).expected_dice(1) == 0.75
    single = votes[1:2].copy()
    single[0, :, 0, 0] = 0.7, 0.3
    assert signs_of(single, 3).expected_dice(1) == pytest.approx(0.7)


def test_another_mask_replaces_the_first():
    p = drawn(3).mean(axis=0)
    signs = Signs(3)
    signs.see_mask(p.argmax(axis=0), p)
    kept = np.where(np.arange(7) < 3, p.argmax(axis=0), 0)
    signs.see_other_mask([(kept[:5], p[:, :5]), (kept[5:], p[:, 5:])])
    again = Signs(3)
    again.see_mask(kept, p)
    for k in range(3):
        assert signs.expected_dice(k) == pytest.approx(again.expected_dice(k))
    np.testing.assert_array_equal(signs.voxels, again.voxels)


def test_by_hand():
    def of(foreground: list[float]) -> Signs:
        p = np.array([[1 - value for value in foreground], foreground])
        signs = Signs(2)
        signs.see_mask(p.argmax(axis=0), p)
        return signs

    # The mask has the voxels 0.9 and 0.6: 2 * 1.5 / (2 + 1.8).
    assert of([0.9, 0.6, 0.3, 0.0]).mean_expected_dice == pytest.approx(3 / 3.8)
    assert of([1.0, 1.0, 0.0]).expected_dice(1) == pytest.approx(1)
    assert of([0.2, 0.1, 0.0]).expected_dice(1) == pytest.approx(0.8)


def test_entropy_and_shares():
    p = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.2], [0.3, 0.5, 0.1]])
    signs = Signs(3)
    signs.see_mask(p.argmax(axis=0), p)
    assert signs.mean_entropy == pytest.approx(stats.entropy(p, axis=0).mean())
    assert signs.shares == pytest.approx([1.1 / 3, 0.9 / 3])
    expected = [2 * 0.6 / (1 + 1.1), 2 * 0.5 / (1 + 0.9)]
    assert signs.mean_expected_dice == pytest.approx(np.mean(expected))
