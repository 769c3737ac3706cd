"""Coverage of the intervals of Dice and volume on new cases, as a Markdown table.

    cdal evaluate MODEL --data DATA --split validation --out A
    cdal evaluate MODEL --data DATA --out B
    python benchmarks/coverage.py A B [--fit-on PATTERN]

MODEL has no fitted quality (`--training.calibrate false`), so that the evaluations tell of all
cases. In each of 500 draws the quality is fitted on a random half of the cases, and the other half
is new. With `--fit-on` it is fitted on the cases whose names match a regular expression, and all
others are new: a shift. The naive interval of volumes takes voxels as independent.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdal.evaluation.fit_quality import Known, fit_quality
from cdal.evaluation.metrics import rank_correlation
from cdal.inference.conformal import quantile
from cdal.inference.quality import LEVEL

DRAWS = 500
HEADINGS = (
    "class",
    "cases",
    "Dice: coverage",
    "width",
    "width of a constant",
    "volume: coverage",
    "width",
    "naive: coverage",
    "width",
    "expected Dice: Spearman",
    "off before",
    "off after",
    "worst tenth found",
)


def read(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows of the evaluations, with numbers as numbers."""
    rows = []
    for folder in folders:
        with (folder / "quality.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                words = {name: row[name] for name in ("case", "class")}
                numbers = {
                    name: float(value)
                    for name, value in row.items()
                    if name not in ("case", "class", "outside")
                }
                rows.append({**words, **numbers})
    return rows


def known(row: Mapping[str, Any]) -> dict[str, Known]:
    """A row as the fit takes it."""
    numbers = Known(row["agreement"], row["dice"], math.nan, row["volume"], row["true_volume"])
    return {row["class"]: numbers}


def draws(rows: Sequence[Any], pattern: str | None) -> Iterator[tuple[list[Any], list[Any]]]:
    """Cases to fit to, and new ones."""
    if pattern:
        yield (
            [row for row in rows if re.match(pattern, row["case"])],
            [row for row in rows if not re.match(pattern, row["case"])],
        )
        return
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        order = rng.permutation(len(rows))
        half = len(rows) // 2
        yield [rows[i] for i in order[:half]], [rows[i] for i in order[half:]]


def measured(name: str, fitted_to: list[Any], new: list[Any]) -> list[float]:
    """The numbers of the table for one draw."""
    fitted = fit_quality([known(row) for row in fitted_to], (name,), {}).classes[name]
    expected = np.array([fitted.dice.at(row["agreement"]) for row in new])
    dice = np.array([row["dice"] for row in new])
    margin, share = fitted.dice.margin(), quantile(fitted.volume, LEVEL)
    off = [abs(row["true_volume"] - row["volume"]) / max(1.0, row["volume"]) for row in new]
    naive = [row["naive_low"] <= row["true_volume"] <= row["naive_high"] for row in new]
    narrow = [(row["naive_high"] - row["naive_low"]) / max(1.0, row["volume"]) for row in new]
    most = max(1, round(len(new) / 10))
    worst = set(np.argsort(dice)[:most]) & set(np.argsort(expected)[:most])
    none = math.nan
    return [
        none if margin is None else float((np.abs(dice - expected) <= margin).mean()),
        none
        if margin is None
        else float((np.minimum(1, expected + margin) - np.maximum(0, expected - margin)).mean()),
        none if fitted.constant is None else fitted.constant,
        none if share is None else float((np.array(off) <= share).mean()),
        none if share is None else 2 * share,
        float(np.mean(naive)),
        float(np.mean(narrow)),
        rank_correlation(expected, dice),
        float(np.mean([abs(row["agreement"] - row["dice"]) for row in new])),
        float(np.abs(np.clip(expected, 0, 1) - dice).mean()),
        len(worst) / most,
    ]


def main() -> None:
    """Draw, fit and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--fit-on")
    options = parser.parse_args()
    rows = read(options.folders)
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
    for name in dict.fromkeys(row["class"] for row in rows):
        of_class = [row for row in rows if row["class"] == name]
        numbers = np.array([measured(name, *parts) for parts in draws(of_class, options.fit_on)])
        means = np.nanmean(numbers, axis=0)
        cells = [name, str(len(of_class)), *(f"{value:.3f}" for value in means)]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
