"""What to look at first among the results of a prediction, however many there are."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import Any

_SHOWN = 5
"""Cases of a kind that are named on the terminal; `predictions.json` has all."""


class Judged:
    """Cases for review, cases unlike the training images, the worst ones; takes one at a time."""

    def __init__(self) -> None:
        self._count = self._outside = self._review = 0
        self._verdicts = False
        self._skipped: list[str] = []
        self._with_glass = 0
        self._named: list[str] = []
        self._lowest: list[tuple[float, int, str]] = []
        self._to_review: list[tuple[float, int, str]] = []

    def add(self, case: Mapping[str, Any]) -> None:
        """Take note of a case, as `cdal.inference.archive.brief` tells it."""
        if share := case.get("skipped"):
            self._with_glass += 1
            if len(self._skipped) < _SHOWN:
                self._skipped.append(f"{case['input']}: {share:.1%}")
        if "lowest" not in case:
            return
        ranked = case["lowest"], self._count, case["input"]
        self._count += 1
        _keep(self._lowest, ranked)
        if case.get("outside"):
            self._outside += 1
            if len(self._named) < _SHOWN:
                self._named.append(f"{case['input']}: {'; '.join(case['warnings'])}")
        self._verdicts |= "verdict" in case
        if case.get("verdict") == "review":
            self._review += 1
            _keep(self._to_review, ranked)

    def lines(self, missing: str) -> list[str]:
        """The lines to show.

        Args:
            missing: why the model has no fitted quality; empty if it has.
        """
        heading = "glass, taken for background without being segmented (--no-skip segments it):"
        lines = _listed(self._skipped, self._with_glass, heading)
        if self._count and missing:
            lines.append(f"expected Dice is the votes' own and has no interval: {missing}")
        lines += _listed(self._named, self._outside, f"{self._outside} unlike the training images:")
        if self._verdicts:
            review = [f"{name}: expected Dice {dice:.3f}" for dice, _, name in self._to_review]
            lines += _listed(review, self._review, f"{self._review} of {self._count} for review:")
        elif self._count > 1:
            worst = [f"{name}: {dice:.3f}" for dice, _, name in self._lowest]
            lines += _listed(worst, len(worst), "lowest expected Dice:")
        return lines


def _keep(lowest: list[tuple[float, int, str]], one: tuple[float, int, str]) -> None:
    """Put one into its place among the lowest."""
    insort(lowest, one)
    del lowest[_SHOWN:]


def _listed(lines: list[str], count: int, heading: str) -> list[str]:
    more = [f"  ... and {count - len(lines)} more"] if count > len(lines) else []
    return [heading, *(f"  {line}" for line in lines), *more] if lines else []
