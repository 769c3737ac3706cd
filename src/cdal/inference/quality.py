"""How good a segmentation is: expected Dice and HD95 of a case, its volume, and their intervals.

The numbers are fitted on cases that were not trained on (`cdal.evaluation.fit_quality`) and kept in
the header of the model file. Their promise is that of `cdal.inference.conformal`: of new cases of
the same kind, at least `LEVEL` lie in their intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cdal.inference.conformal import quantile
from cdal.inference.signs import Signs

LEVEL = 0.9
"""Coverage of the intervals."""

_MOST = 1e6
"""Largest value of a fitted line that can be meant: its x and y are at most some tens."""

_LEAST_DOUBT, _LEAST_DISTANCE = 1e-3, 0.1
"""Smallest 1 - e and smallest HD95 (in mm or pixels) whose logarithms are taken."""


@dataclass(frozen=True)
class Line:
    """A straight line through some cases, and how far other cases lie from it.

    Attributes:
        intercept: value at 0.
        slope: rise.
        residuals: distances of cases that the line was not fitted to, rising.
    """

    intercept: float = 0.0
    slope: float = 1.0
    residuals: tuple[float, ...] = ()

    def at(self, x: float) -> float:
        """Value at x."""
        return self.intercept + self.slope * x

    def margin(self) -> float | None:
        """Half the width of the interval; `None` if there are too few residuals."""
        return quantile(self.residuals, LEVEL)


@dataclass(frozen=True)
class ClassQuality:
    """What was fitted for one class. e is `Signs.expected_dice`.

    Attributes:
        dice: from e to Dice.
        hd95: from log(1 - e) to log(HD95); `None` if no case has a distance.
        volume: distances |V - V*| / V of the volumes of mask and truth, rising; cases with an empty
            mask are left out.
        constant: width of an interval for Dice that is the same for every case, at `LEVEL`; an
            interval that is not narrower has learned nothing from the votes. `None` if there are
            too few cases.
    """

    dice: Line = field(default_factory=Line)
    hd95: Line | None = None
    volume: tuple[float, ...] = ()
    constant: float | None = None


@dataclass(frozen=True)
class Quality:
    """What was fitted for a model.

    Attributes:
        classes: what was fitted for each class but the background.
        cases: number of cases.
        sampling: how the cases were sampled, see `sampled`.
    """

    classes: Mapping[str, ClassQuality]
    cases: int
    sampling: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The header's form: plain values."""
        return asdict(self)

    @staticmethod
    def of(values: Mapping[str, Any]) -> Quality:
        """The inverse of `to_dict`.

        Raises:
            ValueError, TypeError, KeyError: the values are no quality.
        """
        return Quality(
            {str(name): _class_of(fitted) for name, fitted in values["classes"].items()},
            int(values["cases"]),
            dict(values["sampling"]),
        )


def sampled(about: Mapping[str, Any], votes: int) -> dict[str, Any]:
    """What of the sampling decides whether a fitted quality holds.

    Args:
        about: result of `Predictor.about`.
        votes: number of votes.
    """
    kept = ("timesteps", "flips", "components", "decision", "temperature")
    return {"votes": votes, **{name: about[name] for name in kept}}


def estimate(
    signs: Signs,
    classes: Sequence[str],
    voxel: float,
    fitted: Quality | None,
    in_mm: bool = True,
) -> dict[str, dict[str, Any]]:
    """Estimate the quality of one segmentation.

    Args:
        signs: signs of the segmentation.
        classes: names of the classes, the background first.
        voxel: volume of one voxel.
        fitted: what was fitted for the model; `None` gives expected Dice as the votes have it, and
            no intervals.
        in_mm: whether the image has geometry. HD95 in pixels depends on the size of a picture, so
            without geometry it is not estimated.

    Returns:
        By class: `expected_dice`, `dice_interval`, `expected_hd95`, `hd95_interval`,
        `volume_interval`. What is not known is `None`.
    """
    of_class = {} if fitted is None else fitted.classes
    return {
        name: _estimated(signs, k, voxel, of_class.get(name, ClassQuality()), in_mm)
        for k, name in enumerate(classes)
        if k > 0
    }


def doubt(e: float) -> float:
    """log(1 - e), what HD95 is estimated from."""
    return math.log(max(_LEAST_DOUBT, 1 - e))


def log_distance(hd95: float) -> float:
    """log(HD95), with distances below a tenth raised to it."""
    return math.log(max(_LEAST_DISTANCE, hd95))


def _estimated(
    signs: Signs, k: int, voxel: float, fitted: ClassQuality, in_mm: bool
) -> dict[str, Any]:
    e = signs.expected_dice(k)
    dice, margin = fitted.dice.at(e), fitted.dice.margin()
    estimated: dict[str, Any] = {
        "expected_dice": _within(dice),
        "dice_interval": _interval(dice, margin, _within),
        "expected_hd95": None,
        "hd95_interval": None,
        "volume_interval": None,
    }
    if fitted.hd95 is not None and signs.voxels[k] and in_mm:
        distance = fitted.hd95.at(doubt(e))
        estimated["expected_hd95"] = _distance(distance)
        estimated["hd95_interval"] = _interval(distance, fitted.hd95.margin(), _distance)
    volume, share = float(signs.voxels[k]) * voxel, quantile(fitted.volume, LEVEL)
    if volume and share is not None:
        ends = max(0.0, volume * (1 - share)), volume * (1 + share)
        estimated["volume_interval"] = [round(end, 3) for end in ends]
    return estimated


def _interval(middle: float, margin: float | None, form: Any) -> list[float] | None:
    return None if margin is None else [form(middle - margin), form(middle + margin)]


def _within(dice: float) -> float:
    return round(min(1.0, max(0.0, dice)), 4)


def _distance(logarithm: float) -> float:
    return round(math.exp(min(20.0, logarithm)), 3)


def _class_of(values: Mapping[str, Any]) -> ClassQuality:
    constant, hd95 = values["constant"], values["hd95"]
    return ClassQuality(
        _line_of(values["dice"]),
        None if hd95 is None else _line_of(hd95),
        _numbers(values["volume"]),
        None if constant is None else _numbers([constant])[0],
    )


def _line_of(values: Mapping[str, Any]) -> Line:
    intercept, slope = _numbers([values["intercept"], values["slope"]])
    if max(abs(intercept), abs(slope)) > _MOST:
        raise ValueError(f"expected a line whose numbers are at most {_MOST:g}")
    return Line(intercept, slope, _numbers(values["residuals"]))


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("expected finite numbers")
    return numbers
