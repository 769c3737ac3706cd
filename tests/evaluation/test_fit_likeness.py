"""What training images were, against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from cdal.evaluation.fit_likeness import Described, fit_likeness, widened


def normal(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=6)


def fitted(values: np.ndarray, length: float = 5.0):
    return fit_likeness([Described(row, (length, 2.0, 3.0), (1.0, 1.0, 1.0)) for row in values])


def test_distances_are_mahalanobis_with_a_shrunk_covariance():
    values = normal(80)
    seen = fitted(values)
    scale = values.std(axis=0)
    precision = LedoitWolf().fit(values / scale).precision_
    new = normal(1, 1)[0]
    theirs = mahalanobis(new / scale, values.mean(axis=0) / scale, precision)
    assert seen.distance(new) == pytest.approx(theirs, rel=1e-4)


def test_one_in_a_hundred_of_the_same_kind_is_beyond_the_limit():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 6)) * [1, 2, 3, 4, 5, 6]
    new = rng.normal(size=(4000, 6)) * [1, 2, 3, 4, 5, 6]
    seen = fitted(values)
    share = np.mean([seen.distance(row) > seen.limit for row in new])
    assert 0.002 < share < 0.03
    assert seen.distance(10 * new[0]) > seen.limit


def test_few_images_have_sizes_only():
    seen = fitted(normal(19))
    assert seen.limit == 0 and seen.mean == () and seen.count == 19
    assert seen.lengths == ((5, 5), (2, 2), (3, 3))


def test_ranges_are_those_of_all_images_and_need_equal_axes():
    images = [Described(np.zeros(2), (float(i), 1.0), (0.5, 1.0)) for i in (3, 1, 2)]
    assert fit_likeness(images).lengths == ((1, 3), (1, 1))
    assert fit_likeness([*images, Described(np.zeros(2), (), ())]).lengths == ()


def test_widening_takes_other_images_in():
    seen = fitted(normal(80))
    far = [Described(row * 5, (9.0, 2.0, 3.0), (1.0, 1.0, 1.0)) for row in normal(10, 2)]
    wide = widened(seen, far)
    assert wide.lengths[0] == (5, 9)
    assert wide.limit > seen.limit and wide.mean == seen.mean
    near = [Described(np.array(seen.mean), (5.0, 2.0, 3.0), (1.0, 1.0, 1.0))]
    assert widened(seen, near) == seen
