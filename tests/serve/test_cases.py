"""Which cases a server finds: in folders, tables and layouts, and by which ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cdal.runtime.errors import UserError
from cdal.serve.cases import Cases, Entry
from cdal.serve.uploads import Uploads
from helpers.files import picture, save_nifti, write_series
from helpers.review import row, write_record


def found(tmp_path: Path, data: Path, **options: int) -> dict[str, Entry]:
    cases = Cases(tmp_path / "results", data, Uploads(tmp_path, 1, 1.0), **options)
    return {entry.name: entry for entry in cases.listed()}


def gray(path: Path) -> Path:
    return picture(path, np.eye(12, dtype=np.uint8))


def test_images_of_plain_folders_and_of_data_folders_are_found(tmp_path: Path):
    plain, pairs = tmp_path / "plain", tmp_path / "pairs"
    for name in ("a.png", "b.png"):
        gray(plain / name)
        gray(pairs / "train" / "images" / name)
        gray(pairs / "train" / "labels" / name)
    gray(pairs / "test" / "images" / "c.png")  # that has no label yet
    assert set(found(tmp_path, plain)) == {"a.png", "b.png"}
    assert set(found(tmp_path, pairs)) == {"a.png", "b.png", "c.png"}
    gray(plain / "later.png")
    assert set(found(tmp_path, plain)) == {"a.png", "b.png", "later.png"}


def test_channels_series_and_layouts_are_found(tmp_path: Path):
    flat, scans, bids = (tmp_path / name for name in ("flat", "scans", "bids"))
    for channel in range(2):
        save_nifti(flat / "imagesTs" / f"x_000{channel}.nii.gz", np.zeros((4, 5, 6), np.float32))
    for name in ("first", "second"):
        write_series(scans / name, np.ones((3, 8, 8), int))
    for k in (1, 2):
        anat, truth = f"sub-0{k}/anat", f"derivatives/manual/sub-0{k}/anat"
        save_nifti(bids / anat / f"sub-0{k}_T1w.nii.gz", np.zeros((4, 5, 6), np.float32))
        save_nifti(bids / truth / f"sub-0{k}_T1w_dseg.nii.gz", np.eye(5, 6)[None].repeat(4, 0))
    two = found(tmp_path, flat, channels=2)
    assert list(two) == ["x_0000.nii.gz"] and len(two["x_0000.nii.gz"].inputs) == 2
    assert two["x_0000.nii.gz"].stem == "x"
    series = found(tmp_path, scans)
    assert set(series) == {"first", "second"} and series["first"].result_name == "first.dcm"
    assert set(found(tmp_path, bids)) == {"sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"}


def test_folders_without_images_are_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        with pytest.raises(UserError, match=name):
            found(tmp_path, tmp_path / name)


def test_what_an_empty_folder_should_hold_are_images_and_no_masks(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="no image is in it") as refused:
        found(tmp_path, tmp_path / "data")
    assert "label" not in str(refused.value) and ".nii.gz" in str(refused.value)


def test_a_case_has_one_id_whether_it_has_results_or_not(tmp_path: Path):
    data = tmp_path / "data"
    image = gray(data / "a.png")
    before = found(tmp_path, data)["a.png"]
    write_record(tmp_path / "results", [row(image, mask="a_mask.png")])
    after = found(tmp_path, data)["a.png"]
    assert (before.origin, after.origin) == ("data", "results")
    assert before.id == after.id and str(tmp_path) not in before.id
    assert after.file("mask") is None  # it is named, and not there


def test_results_are_read_again_when_they_change_and_failures_are_told(tmp_path: Path):
    results = tmp_path / "results"
    cases = Cases(results, None, Uploads(tmp_path, 1, 1.0))
    assert cases.listed() == []
    write_record(results, [row("x/a.png")], failed={"x/b.png": "b.png: no picture"})
    assert [(entry.name, entry.failed) for entry in cases.listed()] == [
        ("a.png", ""),
        ("b.png", "b.png: no picture"),
    ]
    (results / "predictions.json").write_text(json.dumps({"predictions": []}) + " ")
    assert cases.listed() == []
