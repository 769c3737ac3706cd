"""What a person says of results, on disk."""

from __future__ import annotations

import json
import re
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cdal.datasets.reviews import (
    REVIEWS,
    Review,
    keep_held_out,
    keep_review,
    name_of_case,
    read_reviews,
)
from cdal.runtime.errors import UserError

ACCEPTED = {"input": "in/a.png", "verdict": "accept", "when": "2026-01-31T12:00:00+01:00"}
FIXED = {**ACCEPTED, "verdict": "fix", "mask": "a.png", "dice": {"disc": 0.5}}


def results(root: Path, *masks: str) -> Path:
    """A folder of results with these files."""
    for name in masks:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    root.mkdir(parents=True, exist_ok=True)
    return root


def written(root: Path, content: Any) -> Path:
    (results(root) / REVIEWS).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("source", "mask", "name"),
    [
        ("in/a.nii.gz", "a_mask.nii.gz", "a.nii.gz"),
        ("in/a_mask.png", "a_mask_mask.png", "a_mask.png"),
        ("in/a_0000.nii.gz", "a_mask.nii.gz", "a.nii.gz"),
        ("in/series", "series_mask.dcm", "series.dcm"),
        ("in/a.jpg", None, "a.jpg"),
    ],
)
def test_a_case_is_named_as_its_corrected_mask(source: str, mask: str | None, name: str):
    assert name_of_case(source, mask) == name


def test_a_folder_that_nobody_reviewed_has_no_reviews(tmp_path: Path):
    assert not read_reviews(tmp_path).cases
    assert read_reviews(tmp_path).held_out == ()


def test_what_was_written_is_read_in_the_documented_form(tmp_path: Path):
    folder = results(tmp_path, "a_mask.png", "b_mask.png", "reviewed/b.png")
    began = datetime.now().astimezone().replace(microsecond=0)
    accepted = keep_review(folder, "a.png", "in/a.png", "accept", "a_mask.png")
    fixed = keep_review(folder, "b.png", "in/b.png", "fix", "b_mask.png", {"disc": 0.25})
    rejected = keep_review(folder, "c.png", "in/c.png", "reject")
    assert read_reviews(folder).cases == {"a.png": accepted, "b.png": fixed, "c.png": rejected}
    content = json.loads((folder / REVIEWS).read_text())
    assert content["version"] == 1
    assert content["cases"]["a.png"] | {"when": "", "digest": ""} == {
        "input": "in/a.png",
        "verdict": "accept",
        "when": "",
        "mask": None,
        "dice": {},
        "digest": "",
        "image": "",
    }
    assert (fixed.mask, fixed.dice, rejected.mask) == ("b.png", {"disc": 0.25}, None)
    assert datetime.fromisoformat(accepted.when) >= began
    assert accepted.digest
    assert accepted.digest != fixed.digest
    assert rejected.digest == ""


def test_a_later_review_replaces_an_earlier_one(tmp_path: Path):
    folder = results(tmp_path, "a_mask.png", "reviewed/a.png")
    keep_review(folder, "a.png", "in/a.png", "fix", "a_mask.png", {"disc": 0.5})
    keep_review(folder, "a.png", "in/a.png", "accept", "a_mask.png")
    (review,) = read_reviews(folder).cases.values()
    assert (review.verdict, review.mask, review.dice) == ("accept", None, {})


def test_the_digest_changes_with_the_mask(tmp_path: Path):
    folder = results(tmp_path, "a_mask.png")
    first = keep_review(folder, "a.png", "in/a.png", "accept", "a_mask.png")
    (folder / "a_mask.png").write_text("another")
    assert keep_review(folder, "a.png", "in/a.png", "accept", "a_mask.png").digest != first.digest


@pytest.mark.parametrize("verdict", ["accept", "fix"])
def test_a_verdict_needs_the_mask_that_it_is_about(verdict: Any, tmp_path: Path):
    with pytest.raises(UserError, match="it is not there"):
        keep_review(results(tmp_path), "a.png", "in/a.png", verdict, "a_mask.png")
    with pytest.raises(UserError, match="it is not there"):
        keep_review(tmp_path, "a.png", "in/a.png", verdict)
    assert not (tmp_path / REVIEWS).exists()


def test_writers_at_once_lose_nothing(tmp_path: Path):
    folder = results(tmp_path, *(f"c{k}_mask.png" for k in range(12)))

    def review(first: int) -> None:
        for k in range(first, 12, 3):
            keep_review(folder, f"c{k}.png", f"in/c{k}.png", "accept", f"c{k}_mask.png")
            keep_held_out(folder, [f"p{k}"])

    writers = [threading.Thread(target=review, args=(first,)) for first in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert set(read_reviews(folder).cases) == {f"c{k}.png" for k in range(12)}
    assert set(read_reviews(folder).held_out) == {f"p{k}" for k in range(12)}


def test_patients_that_were_held_out_stay_so(tmp_path: Path):
    folder = results(tmp_path, "a_mask.png")
    assert keep_held_out(folder, ["q"]) == ("q",)
    keep_review(folder, "a.png", "in/a.png", "accept", "a_mask.png")
    assert keep_held_out(folder, ["p"]) == ("p", "q")
    assert keep_held_out(folder, []) == read_reviews(folder).held_out == ("p", "q")
    assert set(read_reviews(folder).cases) == {"a.png"}


def test_a_file_that_is_damaged_is_not_replaced(tmp_path: Path):
    folder = results(tmp_path, "a_mask.png")
    (folder / REVIEWS).write_text('{"version": 1, "cases":')
    with pytest.raises(UserError, match="cannot be read as JSON"):
        keep_review(folder, "a.png", "in/a.png", "accept", "a_mask.png")
    assert (folder / REVIEWS).read_text() == '{"version": 1, "cases":'


def test_fields_of_a_review_may_be_missing(tmp_path: Path):
    content = {"version": 1, "cases": {"a.png": ACCEPTED}}
    assert read_reviews(written(tmp_path, content)).cases == {
        "a.png": Review("in/a.png", "accept", ACCEPTED["when"])
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"cases": {}}, "expected version 1"),
        ({"version": 2, "cases": {}}, "newer version"),
        ({"version": 1}, "expected .cases"),
        ({"version": 1, "cases": []}, "expected .cases"),
        ({"version": 1, "cases": {}, "held_out": [1]}, "held_out"),
    ],
)
def test_what_holds_no_reviews_is_refused(content: Any, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read_reviews(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"version": 1, "cases": {"a": 3}}, "a review"),
        ({"version": 1, "cases": {"../a": ACCEPTED}}, "name of a file"),
        ({"version": 1, "cases": {"a": {**ACCEPTED, "input": 3}}}, "path of an image"),
        ({"version": 1, "cases": {"a": {**ACCEPTED, "verdict": "good"}}}, "accept, fix, reject"),
        ({"version": 1, "cases": {"a": {**ACCEPTED, "verdict": ["fix"]}}}, "accept, fix, reject"),
        ({"version": 1, "cases": {"a": {**ACCEPTED, "when": "monday"}}}, "a time"),
        ({"version": 1, "cases": {"a": {**ACCEPTED, "mask": "a.png"}}}, "if the verdict is fix"),
        ({"version": 1, "cases": {"a": {**FIXED, "dice": {"x": 10**400}}}}, "dice"),
        ({"version": 1, "cases": {"a": {**FIXED, "mask": "../a.png"}}}, "file in reviewed"),
        ({"version": 1, "cases": {"a": {**FIXED, "mask": "c:\\a.png"}}}, "file in reviewed"),
        ({"version": 1, "cases": {"a": {**FIXED, "mask": None}}}, "the verdict is fix"),
        ({"version": 1, "cases": {"a": {**FIXED, "dice": {"disc": 2}}}}, "from 0 to 1"),
        ({"version": 1, "cases": {"a": {**FIXED, "dice": [1]}}}, "from 0 to 1"),
        ({"version": 1, "cases": {"a": {**FIXED, "digest": 4}}}, "checksum"),
        ({"version": 1, "cases": {"a": {**FIXED, "image": 4}}}, "checksum"),
    ],
)
def test_what_is_no_review_is_told_and_hides_no_other(content: Any, message: str, tmp_path: Path):
    folder = results(written(tmp_path, content), "b_mask.png")
    kept = keep_review(folder, "b.png", "in/b.png", "accept", "b_mask.png", image="5e")
    found = read_reviews(folder)
    assert dict(found.cases) == {"b.png": kept}
    (told,) = found.broken.values()
    assert re.search(message, told) and REVIEWS in told
    left = json.loads((folder / REVIEWS).read_text())["cases"]
    assert left.items() > content["cases"].items()  # nobody loses what a person may correct
