"""The folder of small pictures: what is drawn again, and what stands in for what cannot be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

from cdal.evaluation.review.cases import Case, read_results
from cdal.evaluation.review.thumbnails import make_thumbnail, remove_others
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.files import disc, picture, save_nifti, write_series
from helpers.recipes import small_recipe
from helpers.review import discs, row, write_record


def case_of(results: Path) -> Case:
    return read_results(results).cases[0]


def test_a_picture_is_a_small_jpeg_that_says_what_it_shows(tmp_path: Path):
    results = discs(tmp_path, 1)
    made = make_thumbnail(case_of(results), results, tmp_path / "small")
    path = tmp_path / "small" / made.name
    assert path.stat().st_size < 15_000
    with Pillow.open(path) as file:
        assert file.size == made.size == (404, 200)
        assert json.loads(file.info["comment"])["caption"] == made.caption == "whole picture"
    assert made.map


def test_pictures_are_drawn_again_only_if_a_file_has_changed(tmp_path: Path):
    results = discs(tmp_path, 1)
    case = case_of(results)
    first = make_thumbnail(case, results, tmp_path)
    again = make_thumbnail(case, results, tmp_path)
    assert (first.kept, again.kept) == (False, True)
    assert (again.name, again.caption, again.size) == (first.name, first.caption, first.size)
    for path in (tmp_path / "images/c0.png", *(results / name for name in case.files.values())):
        os.utime(path, (1, 1))
        assert not make_thumbnail(case, results, tmp_path).kept
        assert make_thumbnail(case, results, tmp_path).kept
    (tmp_path / first.name).write_bytes(b"cut off")
    assert not make_thumbnail(case, results, tmp_path).kept


def test_what_has_gone_or_is_damaged_has_a_reason(tmp_path: Path):
    results = discs(tmp_path, 1)
    case, image = case_of(results), tmp_path / "images/c0.png"
    content = image.read_bytes()
    image.write_bytes(content[:40])
    damaged = make_thumbnail(case, results, tmp_path)
    assert damaged.name == ""
    assert "cannot be read as PNG" in damaged.caption
    image.unlink()
    assert "is not there. Paths are relative" in make_thumbnail(case, results, tmp_path).caption
    image.write_bytes(content)
    (results / "c0_uncertainty.png").unlink()
    assert not make_thumbnail(case, results, tmp_path).map
    (results / "c0_mask.png").unlink()
    assert "The mask c0_mask.png is not there" in make_thumbnail(case, results, tmp_path).caption


@pytest.mark.parametrize("source", ["", "a\0b", "x" * 5000, "\ud800", "/dev/null/x", "/dev/zero"])
def test_no_path_stops_the_others(tmp_path: Path, source: str):
    write_record(tmp_path, [row(source)])
    made = make_thumbnail(case_of(tmp_path), tmp_path, tmp_path)
    assert made.name == ""
    assert made.problem


def test_channels_on_a_fourth_axis_are_known_by_the_model(tmp_path: Path):
    source = save_nifti(tmp_path / "v.nii.gz", np.zeros((8, 8, 4, 2), np.float32))
    model = tmp_path / "model.safetensors"
    save_model(model, {}, ModelHeader(small_recipe(), ("background", "a"), image_channels=2))
    for name, caption in (
        ("gone", "a volume of 3 axes"),
        (str(model), "axial slice 3 of 4, the middle one; no mask was saved"),
    ):
        write_record(tmp_path, [row(source, model=name)])
        assert caption in make_thumbnail(case_of(tmp_path), tmp_path, tmp_path).caption


def test_headers_of_dicom_are_not_quoted(tmp_path: Path):
    """The errors of their readers name series, which may be called like the patient."""
    for number in (1, 2):
        volume = np.zeros((3, 8, 8), np.uint16)
        write_series(
            tmp_path / "scan", volume, description="SECRET", number=number, first=number * 9
        )
    write_record(tmp_path, [row(tmp_path / "scan")])
    made = make_thumbnail(case_of(tmp_path), tmp_path, tmp_path)
    assert "SECRET" in made.problem
    assert "SECRET" not in made.caption
    assert "cdal review prints it" in made.caption


def test_only_pictures_of_ours_are_deleted(tmp_path: Path):
    results = discs(tmp_path, 2)
    names = [make_thumbnail(case, results, tmp_path).name for case in read_results(results).cases]
    other = picture(tmp_path / "0123456789abcdef.jpg", disc())
    own = picture(tmp_path / "mine.jpg", disc())
    remove_others(tmp_path, names[:1])
    assert (tmp_path / names[0]).exists()
    assert not (tmp_path / names[1]).exists()
    assert other.exists()
    assert own.exists()


def test_the_series_that_was_segmented_is_drawn_or_nothing(tmp_path: Path):
    """Others that are in the folder would fit the mask as well."""
    scan, results = tmp_path / "scan", tmp_path / "results"
    volume = np.zeros((3, 12, 12), np.uint16)
    write_series(scan, volume, description="T1")
    write_series(scan, volume + disc(12, 4).astype(np.uint16) * 500, description="T2", first=10)
    uids = [str(pydicom.dcmread(scan / name).SeriesInstanceUID) for name in ("IM0000", "IM0010")]
    drawn = []
    for uid in uids:
        write_record(results, [{**row(str(scan)), "series": uid}])
        made = make_thumbnail(case_of(results), results, tmp_path / uid)
        drawn.append((tmp_path / uid / made.name).read_bytes())
    assert drawn[0] != drawn[1]
    write_record(results, [{**row(str(scan)), "series": "1.2.3"}])
    gone = make_thumbnail(case_of(results), results, tmp_path / "gone")
    assert gone.gone and gone.caption == f"The series that was segmented is no longer in {scan}."
