"""Evaluations on disk, as `cdal evaluate` writes them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdal.evaluation.metrics import SCORES

CASES = ("a", "b", "c", "d", "e", "f")
CLASSES = ("front", "back")


def evaluation_on_disk(
    folder: Path,
    name: str,
    dice: np.ndarray,
    fold: int | None = 0,
    cases: tuple[str, ...] = CASES,
    more: dict[str, Any] | None = None,
    annotators: Mapping[str, np.ndarray] | None = None,
    **protocol: Any,
) -> Path:
    """An evaluation on disk; `dice` is `[cases, classes]`, each of `annotators` is `[cases]`."""
    folder.mkdir(parents=True)
    if annotators is not None:
        measured = [
            {"case": case, **{name: values[i] for name, values in annotators.items()}}
            for i, case in enumerate(cases)
        ]
        write_rows(folder / "annotators.csv", measured)
        means = {name: float(np.nanmean(values)) for name, values in annotators.items()}
        more = {**(more or {}), "annotators": means}
    rows = [
        {
            "scoring": "own-grid",
            "case": case,
            "class": kind,
            **dict.fromkeys(SCORES, 0.5),
            "dice": dice[i, k],
            "seconds": 1,
        }
        for i, case in enumerate(cases)
        for k, kind in enumerate(CLASSES)
    ]
    write_rows(folder / "cases.csv", rows)
    described = {
        "scoring": "own-grid",
        "segmenter": name,
        "data": "set",
        "partition": "interleaved",
        "folds": 4,
        "fold": fold,
    }
    described |= {"split": "test", "unit": "mm", "empty_masks": "1", "truth": f"truth of {fold}"}
    training = {"seconds": 120.0, "steps": 50, "peak_memory": 1.5}
    cost = {"parameters": 2_000_000, "gigaflops": 3.5, "training": training}
    summary = {
        "protocol": described | protocol,
        "seconds_per_case": 0.25,
        "cost": cost,
        **(more or {}),
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
