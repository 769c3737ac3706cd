"""What is read from `predictions.json`, whoever wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cdal.evaluation.review.cases import read_results
from cdal.runtime.errors import UserError
from helpers.review import quality, row, write_record


def test_cases_come_by_expected_dice_then_by_uncertainty(tmp_path: Path):
    rows = [
        row("none.png", mean_uncertainty=None),
        row("sure.png", mean_uncertainty=0.1),
        row("unsure.png", mean_uncertainty=0.3),
        row("good.png", quality={"disc": quality(0.9)}),
        row("mixed.png", volume={"a": 1, "b": 2}, quality={"a": quality(0.95), "b": quality(0.2)}),
        row("poor.png", quality={"disc": quality(0.5)}),
        row("unknown.png", quality={"disc": quality(None)}, mean_uncertainty=0.2),
    ]
    found = read_results(write_record(tmp_path, rows))
    assert [case.name for case in found.cases] == [
        *("mixed.png", "poor.png", "good.png"),
        *("unsure.png", "unknown.png", "sure.png", "none.png"),
    ]


def test_all_fields_of_a_row(tmp_path: Path):
    estimate = quality(0.91, [0.84, 0.97], [1100.0, 1400.0])
    given = row(
        "a.nii.gz",
        volume={"left": 1250.0, "right": 3.0},
        unit="mm3",
        quality={"left": estimate},
        outside=True,
        warnings=["the spacing is 5 mm"],
        verdict="review",
        mask="a_mask.nii.gz",
    )
    (case,) = read_results(write_record(tmp_path, [given])).cases
    left, right = case.classes
    assert (left.name, left.number, left.volume, left.dice) == ("left", 1, 1250.0, 0.91)
    assert (left.dice_interval, left.volume_interval) == ((0.84, 0.97), (1100.0, 1400.0))
    assert (right.name, right.number, right.volume, right.dice) == ("right", 2, 3.0, None)
    assert (case.outside, case.verdict, case.unit) == (True, "review", "mm3")
    assert case.warnings == ("the spacing is 5 mm",)
    assert case.files == {"mask": "a_mask.nii.gz"}


@pytest.mark.parametrize("wrong", [None, 1, "x", [], {}, [None], {"a": None}, True, 1e999])
def test_fields_of_another_kind_count_as_not_known(tmp_path: Path, wrong: Any):
    fields = ("volume", "quality", "outside", "warnings", "verdict", "mask", "mean_uncertainty")
    for field in (*fields, "input", "model", "unit"):
        rows = [row("a.png", **{field: wrong}), *([] if isinstance(wrong, dict) else [wrong])]
        (case,) = read_results(write_record(tmp_path, rows)).cases
        assert case.verdict == ""
        assert not case.files or wrong == "x"
    bad = {"expected_dice": wrong, "dice_interval": wrong, "volume_interval": [0, wrong]}
    (case,) = read_results(write_record(tmp_path, [row("a.png", quality={"disc": bad})])).cases
    assert (case.classes[0].dice_interval, case.classes[0].volume_interval) == (
        None,
        (0, 1) if wrong is not True and wrong == 1 else None,
    )


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "a/b.png", "..", "", "a\0b", "x\\y"])
def test_results_elsewhere_are_not_taken(tmp_path: Path, name: str):
    (case,) = read_results(write_record(tmp_path, [row("a.png", mask=name)])).cases
    assert case.files == {}


def test_a_file_is_not_said_to_be_missing(tmp_path: Path):
    (tmp_path / "chest.png").write_bytes(b"")
    for name, found in (("chest.png", "it is a file"), ("gone", "there is no such folder")):
        with pytest.raises(UserError, match=f"{name}: expected a folder of results.*; {found}"):
            read_results(tmp_path / name)


def test_a_folder_without_results_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no predictions.json.*--out of cdal predict"):
        read_results(tmp_path)
    for text, message in (
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "list"),
    ):
        (tmp_path / "predictions.json").write_text(text)
        with pytest.raises(UserError, match=message):
            read_results(tmp_path)
    (tmp_path / "predictions.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        read_results(tmp_path)
