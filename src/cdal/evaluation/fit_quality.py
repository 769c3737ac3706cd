"""Fitting the quality of a case (`cdal.inference.quality`) on cases with known truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cdal.inference.conformal import fewest, quantile
from cdal.inference.quality import LEVEL, ClassQuality, Line, Quality, doubt, log_distance

_LINE = 30
"""Cases from which a line is fitted. With fewer, its slope would be noise, and only its height is
fitted."""

_SEED = 0


class Known(NamedTuple):
    """One class of one case with known truth.

    Attributes:
        expected: e, `cdal.inference.signs.Signs.expected_dice`.
        dice: Dice against the truth.
        hd95: HD95 against the truth; NaN if mask or truth is empty.
        volume: volume of the mask, in voxels.
        true_volume: volume of the truth, in voxels.
    """

    expected: float
    dice: float
    hd95: float
    volume: float
    true_volume: float


def fit_quality(
    cases: Sequence[Mapping[str, Known]], classes: Sequence[str], sampling: Mapping[str, Any]
) -> Quality:
    """Fit lines on one half of the cases, and take the residuals of the other half.

    The halves are what makes the coverage exact (split conformal prediction). With fewer than 30
    cases a line keeps its slope of 1; with fewer than twice the least number of residuals
    (`cdal.inference.conformal.fewest`) nothing is fitted, and all cases give residuals; with fewer
    than that number there are no intervals.

    Args:
        cases: numbers of each case by class, in any order that does not depend on them.
        classes: names of the classes without the background.
        sampling: how the cases were sampled, see `cdal.inference.quality.sampled`.
    """
    order = np.random.default_rng(_SEED).permutation(len(cases))
    return Quality(
        {name: _fit_class([cases[i][name] for i in order]) for name in classes},
        len(cases),
        dict(sampling),
    )


def _fit_class(known: Sequence[Known]) -> ClassQuality:
    apart = [case for case in known if not math.isnan(case.hd95)]
    dice = [case.dice for case in known]
    _, others = _halves(dice)
    middle = float(np.mean(dice[: len(dice) - len(others)] or dice))
    half_width = quantile([abs(value - middle) for value in others], LEVEL)
    return ClassQuality(
        _line([case.expected for case in known], dice),
        _line([doubt(case.expected) for case in apart], [log_distance(c.hd95) for c in apart], True)
        if apart
        else None,
        _rising([abs(c.true_volume - c.volume) / c.volume for c in known if c.volume]),
        None if half_width is None else round(2 * half_width, 4),
    )


def _halves(values: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Cases to fit to, and cases for residuals; none to fit to if there are too few."""
    middle = len(values) // 2 if len(values) >= 2 * fewest(LEVEL) else 0
    return values[:middle], values[middle:]


def _line(x: Sequence[float], y: Sequence[float], free: bool = False) -> Line:
    """A line that does not fall, by least squares.

    Args:
        x: signs of the cases.
        y: truth of the cases.
        free: whether x and y have different scales, so that y = x is no line to start with.
    """
    fitted_to, others = _halves(list(zip(x, y, strict=True)))
    known = fitted_to or (others if free else [])
    intercept, slope = 0.0, 0.0 if free else 1.0
    if known:
        signs, truths = np.array(known).T
        if len(x) >= _LINE and np.ptp(signs) > 0:
            slope = max(0.0, float(np.polyfit(signs, truths, 1)[0]))
        intercept = float(truths.mean() - slope * signs.mean())
    line = Line(round(intercept, 6), round(slope, 6))
    # A line that was fitted to all cases, for want of more, promises nothing about others.
    left = others if fitted_to or not free else []
    return Line(line.intercept, line.slope, _rising([abs(b - line.at(a)) for a, b in left]))


def _rising(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(sorted(round(float(value), 5) for value in values))
