"""Two models on the same cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.datasets.folder import open_folder
from cdal.evaluation.before_after import (
    BEFORE_AFTER,
    BeforeAfter,
    before_after,
    keep_before_after,
    kept_before_after,
)
from cdal.runtime.errors import UserError
from helpers.ensembles import member


def test_a_model_is_better_only_than_another_that_is_worse(
    trained: Path, phantoms: Path, tmp_path: Path
):
    folder, random = open_folder(phantoms), member(tmp_path / "random.safetensors")
    cases = folder.cases[:3]
    good = trained / "model.safetensors"
    up = before_after(random, good, folder, cases, "cpu")
    down = before_after(good, random, folder, cases, "cpu")
    same = before_after(good, good, folder, cases, "cpu")
    assert (up.before, up.after) == (down.after, down.before)
    assert up.after["lesion"] > up.before["lesion"]
    assert (up.better, down.better, same.better) == (True, False, False)
    assert up.cases == 3


def test_scores_are_kept_and_said_in_words(tmp_path: Path):
    compared = BeforeAfter(2, {"a": 0.5, "b": 0.75}, {"a": 0.625, "b": 0.5}, False)
    assert kept_before_after(tmp_path) is None
    keep_before_after(tmp_path, compared)
    assert kept_before_after(tmp_path) == compared
    assert compared.lines() == [
        "a: Dice 0.5000 before, 0.6250 after (+0.1250)",
        "b: Dice 0.7500 before, 0.5000 after (-0.2500)",
        "not better on 2 held-out cases, which no training has seen; so few prove little",
    ]
    *_, last = BeforeAfter(10, {"a": 0.5}, {"a": 0.75}, True).lines()
    assert last == "better on 10 held-out cases, which no training has seen"


SCORES = '{"cases": 1, "before": {"a": %s}, "after": {"%s": 0.5}, "better": true}'


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"cases": 1}', "[" * 100_000, SCORES % ("0.5", "b")]
    + [SCORES % (value, "a") for value in ("NaN", '"x"', "1.5", "9" * 400)],
)
def test_damaged_scores_are_refused(text: str, tmp_path: Path):
    (tmp_path / BEFORE_AFTER).write_text(text)
    with pytest.raises(UserError, match="is damaged"):
        kept_before_after(tmp_path)
