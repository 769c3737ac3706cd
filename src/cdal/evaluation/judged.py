"""Whether estimates of quality were right: expected Dice and intervals against the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from cdal.evaluation.metrics import count, nan_mean, rank_correlation
from cdal.inference.predictor import Prediction

WORST = 0.1
"""Share of the cases that a review looks at."""


def judged_rows(
    prediction: Prediction, truth: np.ndarray, voxel: float, case: str
) -> list[dict[str, Any]]:
    """One row for each class: what was estimated of a case, and what is true.

    The naive interval of the volume takes voxels as independent: V +- z sqrt(sum p (1 - p)).

    Args:
        prediction: the segmentation, with what was estimated of it.
        truth: true classes, `[*S]`.
        voxel: volume of one voxel.
        case: name of the case.
    """
    signs, mask = prediction.signs, prediction.mask
    z = float(stats.norm.ppf(0.95))
    rows = []
    for k, (name, estimated) in enumerate(prediction.judgement["quality"].items(), start=1):
        dice, volume = estimated["dice_interval"], estimated["volume_interval"]
        naive = z * math.sqrt(signs.variance[k]) * voxel
        own, true = float(signs.voxels[k]) * voxel, float((truth == k).sum()) * voxel
        rows.append(
            {
                "case": case,
                "class": name,
                "dice": count(mask == k, truth == k).dice,
                "expected_dice": estimated["expected_dice"],
                "agreement": round(signs.expected_dice(k), 5),
                "dice_low": dice[0] if dice else math.nan,
                "dice_high": dice[1] if dice else math.nan,
                "true_volume": true,
                "volume": own,
                "volume_low": volume[0] if volume else math.nan,
                "volume_high": volume[1] if volume else math.nan,
                "naive_low": own - naive,
                "naive_high": own + naive,
                "outside": prediction.judgement.get("outside", math.nan),
            }
        )
    return rows


def summary_of_judged(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the rows of `judged_rows` by class.

    Returns:
        For each class: `rank_correlation` (Spearman's) and `error` (mean absolute difference) of
        expected and true Dice, `error_before` without the fitted line; `worst_found`, the share of
        the worst tenth by true Dice that is in the worst tenth by expected Dice; `coverage` and
        `width` of the intervals of Dice; `volume_coverage` and `volume_width` (relative to the
        volume), and the same of the naive interval as `naive_coverage` and `naive_width`. At the
        top level: `outside`, the share of the cases that are unlike the training images; NaN if
        that is not known.
    """
    names = list(dict.fromkeys(row["class"] for row in rows))
    by_class = {name: _of_class([r for r in rows if r["class"] == name]) for name in names}
    return {"classes": by_class, "outside": nan_mean(np.array([float(r["outside"]) for r in rows]))}


def _of_class(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    dice, expected, volume = column("dice"), column("expected_dice"), column("volume")
    return {
        "rank_correlation": rank_correlation(expected, dice),
        "error": float(np.abs(expected - dice).mean()),
        "error_before": float(np.abs(column("agreement") - dice).mean()),
        "worst_found": _worst_found(expected, dice),
        "coverage": _inside(dice, column("dice_low"), column("dice_high")),
        "width": nan_mean(column("dice_high") - column("dice_low")),
        **_volumes(column("true_volume"), column("volume_low"), column("volume_high"), volume, ""),
        **_volumes(
            column("true_volume"), column("naive_low"), column("naive_high"), volume, "naive"
        ),
    }


def _volumes(
    true: np.ndarray, low: np.ndarray, high: np.ndarray, volume: np.ndarray, kind: str
) -> dict[str, float]:
    prefix, own = kind or "volume", np.where(volume > 0, volume, math.nan)
    return {
        f"{prefix}_coverage": _inside(true, low, high),
        f"{prefix}_width": nan_mean((high - low) / own),
    }


def _inside(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the values in their intervals; NaN if there are no intervals."""
    known = ~np.isnan(low)
    inside = (low[known] - 1e-9 <= values[known]) & (values[known] <= high[known] + 1e-9)
    return float(inside.mean()) if known.any() else math.nan


def _worst_found(expected: np.ndarray, dice: np.ndarray) -> float:
    most = max(1, round(WORST * len(dice)))
    found = set(np.argsort(expected, kind="stable")[:most]) & set(
        np.argsort(dice, kind="stable")[:most]
    )
    return len(found) / most
