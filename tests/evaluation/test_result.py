"""Evaluations and failures read from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cdal.evaluation.comparison import compare
from cdal.runtime.errors import UserError
from helpers.results import evaluation_on_disk


@pytest.mark.parametrize("text", ["", "{}", '{"segmenter": "a"}', "[]"])
def test_a_damaged_failure_is_refused(text: str, tmp_path: Path, dice: np.ndarray):
    evaluation_on_disk(tmp_path / "one", "one", dice)
    (tmp_path / "failed.json").write_text(text)
    with pytest.raises(UserError, match=r"failed\.json is damaged"):
        compare([tmp_path])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "cases.csv").write_text(
            (folder / "cases.csv").read_text().rsplit("\n", 2)[0]
        ),
        lambda folder: (folder / "cases.csv").write_text(
            (folder / "cases.csv").read_text().split("\n", 1)[0] + "\n"
        ),
        lambda folder: (folder / "summary.json").write_text(
            '{"protocol": {"scoring": "own-grid", "segmenter": "a"}}'
        ),
        lambda folder: (folder / "summary.json").write_text(
            '{"protocol": {"scoring": "own-grid", "segmenter": "a", "fold": 0}}'
        ),
        lambda folder: (folder / "summary.json").write_text("[]"),
        lambda folder: (folder / "cases.csv").write_text(
            (folder / "cases.csv").read_text().replace("0.5", "inf", 1)
        ),
    ],
)
def test_a_damaged_evaluation_is_refused(damage, tmp_path: Path, dice: np.ndarray):
    folder = evaluation_on_disk(tmp_path / "one", "one", dice)
    damage(folder)
    with pytest.raises(UserError, match="is no evaluation"):
        compare([folder])
