"""Whether estimates were right, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cdal.evaluation.judged import judged_rows, summary_of_judged
from cdal.inference.signs import Signs


def row(dice: float, expected: float, low: float = math.nan, **changed: object) -> dict:
    values = {
        "case": "a",
        "class": "x",
        "dice": dice,
        "expected_dice": expected,
        "agreement": expected + 0.1,
        "dice_low": low,
        "dice_high": low + 0.2,
        "true_volume": 100.0,
        "volume": 90.0,
        "volume_low": 80.0,
        "volume_high": 125.0,
        "naive_low": 89.0,
        "naive_high": 91.0,
        "outside": False,
    }
    return {**values, **changed}


def test_a_row_holds_estimate_and_truth():
    signs = Signs(2)
    p = np.stack([[0.2, 0.3, 0.9, 0.8], [0.8, 0.7, 0.1, 0.2]])
    mask, truth = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])
    signs.see_mask(mask, p)
    judgement = {
        "quality": {
            "x": {"expected_dice": 0.8, "dice_interval": None, "volume_interval": [2.0, 9.0]}
        }
    }
    prediction = SimpleNamespace(judgement=judgement, signs=signs, mask=mask)
    (made,) = judged_rows(prediction, truth, 2.0, "a")
    assert made["dice"] == pytest.approx(2 / 3) and made["expected_dice"] == 0.8
    assert (made["volume"], made["true_volume"]) == (4.0, 2.0)
    spread = 1.6448536 * math.sqrt(0.16 + 0.21 + 0.09 + 0.16) * 2
    assert (made["naive_low"], made["naive_high"]) == pytest.approx((4 - spread, 4 + spread))
    assert math.isnan(made["dice_low"]) and made["volume_high"] == 9.0


def test_the_summary_by_hand():
    rows = [row(0.9, 0.8, 0.75), row(0.5, 0.6, 0.6), row(0.7, 0.7, 0.6, outside=True)]
    summary = summary_of_judged(rows)
    of_class = summary["classes"]["x"]
    assert of_class["error"] == pytest.approx(0.2 / 3)
    assert of_class["error_before"] == pytest.approx((0 + 0.2 + 0.1) / 3)
    assert of_class["rank_correlation"] == pytest.approx(1)
    assert of_class["coverage"] == pytest.approx(2 / 3) and of_class["width"] == pytest.approx(0.2)
    assert of_class["volume_coverage"] == 1 and of_class["volume_width"] == pytest.approx(0.5)
    assert of_class["naive_coverage"] == 0 and of_class["naive_width"] == pytest.approx(2 / 90)
    assert summary["outside"] == pytest.approx(1 / 3)


def test_the_worst_tenth_that_a_review_finds():
    dice = np.linspace(0.5, 0.9, 40)
    expected = dice.copy()
    expected[:2] = 1.0
    rows = [row(d, e) for d, e in zip(dice, expected, strict=True)]
    assert summary_of_judged(rows)["classes"]["x"]["worst_found"] == 0.5
    assert math.isnan(summary_of_judged(rows)["classes"]["x"]["coverage"])
