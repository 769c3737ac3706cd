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
    return fit_likeness([described(row, length) for row in values])


def described(row: np.ndarray, length: float = 5.0) -> Described:
    aspects = {"intensities": row[:4], "texture": row[4:]}
    return Described(aspects, (length, 2.0, 3.0), (1.0, 1.0, 1.0))


def distances(seen, row: np.ndarray) -> dict[str, float]:
    return seen.distances(described(row).features)


def test_distances_are_mahalanobis_with_a_shrunk_covariance():
    values = normal(80)
    seen = fitted(values)
    new = normal(1, 1)[0]
    for name, part in (("intensities", slice(4)), ("texture", slice(4, 6))):
        scale, centre = values[:, part].std(axis=0), values[:, part].mean(axis=0)
        precision = LedoitWolf().fit(values[:, part] / scale).precision_
        theirs = mahalanobis(new[part] / scale, centre / scale, precision)
        ours = distances(seen, new)[name] * seen.aspects[name].usual
        assert ours == pytest.approx(theirs, rel=1e-3)


def test_one_in_a_hundred_of_the_same_kind_is_beyond_the_limit():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 6)) * [1, 2, 3, 4, 5, 6]
    new = rng.normal(size=(4000, 6)) * [1, 2, 3, 4, 5, 6]
    seen = fitted(values)
    share = np.mean([max(distances(seen, row).values()) > seen.limit for row in new])
    assert 0.002 < share < 0.03
    assert max(distances(seen, 10 * new[0]).values()) > seen.limit


def test_one_aspect_that_is_far_off_is_told_beside_many_that_are_usual():
    """A distance over all features drowns it: 30 usual ones are 5.5 away, and 4 more is 6.8."""
    rng = np.random.default_rng(0)
    parts = {"intensities": slice(0, 30), "texture": slice(30, 31)}

    def aspects(row: np.ndarray) -> dict[str, np.ndarray]:
        return {name: row[part] for name, part in parts.items()}

    values = rng.normal(size=(400, 31))
    seen = fit_likeness([Described(aspects(row), (), ()) for row in values])
    far = np.array([*rng.normal(size=30), 4.0])
    found = seen.distances(aspects(far))
    assert found["texture"] > seen.limit > found["intensities"]


def test_few_images_have_sizes_only():
    seen = fitted(normal(19))
    assert seen.limit == 0 and not seen.aspects and seen.count == 19
    assert seen.lengths == ((5, 5), (2, 2), (3, 3))


def test_ranges_are_those_of_all_images_and_need_equal_axes():
    images = [Described({}, (float(i), 1.0), (0.5, 1.0)) for i in (3, 1, 2)]
    assert fit_likeness(images).lengths == ((1, 3), (1, 1))
    assert fit_likeness([*images, Described({}, (), ())]).lengths == ()


def test_widening_takes_other_images_in():
    seen = fitted(normal(80))
    wide = widened(seen, [described(row * 5, 9.0) for row in normal(10, 2)])
    assert wide.lengths[0] == (5, 9)
    assert wide.limit > seen.limit and wide.aspects == seen.aspects
    middle = np.concatenate([aspect.mean for aspect in seen.aspects.values()])
    assert widened(seen, [described(middle)]) == seen
    assert widened(seen, [Described({"other": np.ones(3)}, (), ())]) == seen


def test_what_is_always_the_same_may_be_rounded_otherwise_but_not_change():
    rng = np.random.default_rng(0)
    rows = [Described({"colours": 1 + 1e-9 * rng.normal(size=3)}, (), ()) for _ in range(30)]
    seen = fit_likeness(rows)
    assert seen.distances({"colours": np.full(3, 1 + 1e-8)})["colours"] < seen.limit
    assert seen.distances({"colours": np.array([1, 1, 0.9])})["colours"] > seen.limit
