"""Estimates of quality from a fitted model file, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cdal.inference.quality import ClassQuality, Line, Quality, doubt, estimate, log_distance
from cdal.inference.signs import Signs

CLASSES = ("background", "a")
RESIDUALS = tuple(i / 100 for i in range(1, 11))


def certain(p: float, voxels: int = 100) -> Signs:
    """Signs of a mask of some voxels, all of probability p."""
    signs = Signs(2)
    values = np.full((2, voxels), p)
    values[0] = 1 - p
    signs.see_mask(np.ones(voxels, int), values)
    return signs


def fitted(**changed: object) -> Quality:
    values = {
        "dice": Line(-0.1, 1.1, RESIDUALS),
        "hd95": Line(2.0, 0.5, RESIDUALS),
        "volume": tuple(i / 50 for i in range(1, 11)),
        "constant": 0.3,
        **changed,
    }
    return Quality({"a": ClassQuality(**values)}, 20, {"votes": 5})


def test_line_interval_and_volume_by_hand():
    """Ten residuals: the interval takes the tenth, as ceil(11 * 0.9) = 10."""
    signs = certain(0.9)
    e = 2 * 90 / (100 + 90)
    (of_class,) = estimate(signs, CLASSES, 2.0, fitted()).values()
    dice = -0.1 + 1.1 * e
    assert of_class["expected_dice"] == pytest.approx(dice, abs=1e-4)
    assert of_class["dice_interval"] == pytest.approx([dice - 0.1, min(1, dice + 0.1)], abs=1e-4)
    hd95 = np.exp(2 + 0.5 * np.log(1 - e))
    assert of_class["expected_hd95"] == pytest.approx(hd95, rel=1e-3)
    assert of_class["hd95_interval"] == pytest.approx(
        [hd95 * np.exp(-0.1), hd95 * np.exp(0.1)], rel=1e-3
    )
    assert of_class["volume_interval"] == pytest.approx([200 * 0.8, 200 * 1.2])


def test_without_a_fit_the_votes_have_the_word_and_there_is_no_interval():
    (of_class,) = estimate(certain(0.9), CLASSES, 1.0, None).values()
    assert of_class.pop("expected_dice") == pytest.approx(2 * 90 / 190, abs=1e-4)
    assert set(of_class.values()) == {None}


def test_few_residuals_give_no_interval():
    few = fitted(dice=Line(0, 1, RESIDUALS[:8]), hd95=None, volume=RESIDUALS[:8])
    (of_class,) = estimate(certain(0.9), CLASSES, 1.0, few).values()
    assert of_class["dice_interval"] is None and of_class["volume_interval"] is None


def test_an_empty_mask_has_no_interval_of_volume_and_no_distance():
    signs = Signs(2)
    signs.see_mask(np.zeros(50, int), np.stack([np.full(50, 0.9), np.full(50, 0.1)]))
    (of_class,) = estimate(signs, CLASSES, 1.0, fitted()).values()
    assert of_class["volume_interval"] is None and of_class["expected_hd95"] is None


def test_dice_stays_between_0_and_1():
    low = fitted(dice=Line(-5.0, 1.0, RESIDUALS))
    high = fitted(dice=Line(5.0, 1.0, RESIDUALS))
    for quality, end in ((low, 0.0), (high, 1.0)):
        (of_class,) = estimate(certain(0.9), CLASSES, 1.0, quality).values()
        assert of_class["expected_dice"] == end and of_class["dice_interval"] == [end, end]


def test_a_header_holds_it_and_gives_it_back():
    quality = fitted()
    assert Quality.of(json.loads(json.dumps(quality.to_dict()))) == quality


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("classes", "a", "dice", "slope"), float("nan")),
        (("classes", "a", "dice", "slope"), 1e300),
        (("classes", "a", "dice", "residuals"), ["x"]),
        (("classes", "a", "volume"), None),
        (("classes",), [1]),
        (("cases",), None),
    ],
)
def test_damaged_values_are_refused(path: tuple[str, ...], value: object):
    values = json.loads(json.dumps(fitted().to_dict()))
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        Quality.of(values)


def test_logarithms_have_a_floor():
    assert doubt(1.0) == np.log(1e-3) and log_distance(0.0) == np.log(0.1)


def test_without_geometry_there_is_no_distance():
    (of_class,) = estimate(certain(0.9), CLASSES, 1.0, fitted(), in_mm=False).values()
    assert of_class["expected_hd95"] is None and of_class["hd95_interval"] is None
    assert of_class["dice_interval"] is not None
