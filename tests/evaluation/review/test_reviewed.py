"""The reviewed cases of results as a data folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cdal.datasets.check import check_listed
from cdal.datasets.reading import read_case
from cdal.datasets.reviews import REVIEWED, keep_review
from cdal.evaluation.review.reviewed import Reviewed, reviewed_folder
from cdal.imaging.formats import read_image, read_label, write_label
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import ModelHeader, read_header
from helpers.ensembles import member
from helpers.files import disc, picture, save_nifti, write_series
from helpers.review import discs, write_record

HEADER = ModelHeader(Recipe("x"), ("background", "disc"), 1)


def fix(results: Path, name: str, source: Path, radius: int = 5) -> None:
    picture(results / REVIEWED / name, disc(40, radius))
    keep_review(results, name, str(source), "fix")


def labels(reviewed: Reviewed) -> dict[str, np.ndarray]:
    """Label of each case by its name."""
    folder = reviewed.folder
    return {case.name: read_case(case, folder)[1][0].array[0] for case in folder.cases}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Four pictures of discs with their masks; one is accepted, one corrected, one rejected."""
    results, images = discs(tmp_path, 4), tmp_path / "images"
    keep_review(results, "c0.png", str(images / "c0.png"), "accept", "c0_mask.png")
    fix(results, "c1.png", images / "c1.png")
    keep_review(results, "c2.png", str(images / "c2.png"), "reject")
    return results


def test_accepted_cases_have_the_predicted_mask_and_fixed_ones_the_corrected(results: Path):
    reviewed = reviewed_folder(results, HEADER)
    found = labels(reviewed)
    assert set(found) == {"c0", "c1"}
    assert (found["c0"] == disc(40, 10)).all()
    assert (found["c1"] == disc(40, 5)).all()
    assert dict(reviewed.counts) == {"accept": 1, "fix": 1, "reject": 1}
    assert reviewed.left_out == ()
    assert reviewed.folder.classes == ("background", "disc")
    assert not check_listed(reviewed.folder).errors


def test_an_accepted_mask_that_was_replaced_is_left_out(results: Path):
    (results / "c0_mask.png").write_bytes((results / "c3_mask.png").read_bytes())
    reviewed = reviewed_folder(results, HEADER)
    assert [case.name for case in reviewed.folder.cases] == ["c1"]
    assert "another mask than the accepted one" in reviewed.left_out[0]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("images/c1.png", r"its image .*c1.png is not there"),
        ("results/reviewed/c1.png", r"reviewed/c1.png is not there"),
    ],
)
def test_what_is_missing_is_told(gone: str, message: str, results: Path):
    (results.parent / gone).unlink()
    reviewed = reviewed_folder(results, HEADER)
    assert [case.name for case in reviewed.folder.cases] == ["c0"]
    with pytest.raises(UserError, match=message):
        raise UserError(reviewed.left_out[0])


def test_a_case_that_is_predicted_no_more_is_left_out(results: Path):
    content = json.loads((results / "predictions.json").read_text())
    write_record(results, content["predictions"][1:])
    assert "does not list it any more" in reviewed_folder(results, HEADER).left_out[0]


def test_results_of_other_classes_are_not_used(results: Path):
    header = ModelHeader(Recipe("x"), ("background", "spot"), 1)
    with pytest.raises(UserError, match="it was segmented as disc"):
        reviewed_folder(results, header)


def test_without_reviews_there_is_nothing_to_train_on(tmp_path: Path):
    results = discs(tmp_path, 2)
    with pytest.raises(UserError, match="holds no reviews"):
        reviewed_folder(results, HEADER)
    keep_review(results, "c0.png", str(tmp_path / "images" / "c0.png"), "reject")
    with pytest.raises(UserError, match="of 1 reviewed ones, none can be used"):
        reviewed_folder(results, HEADER)


def test_patients_are_those_of_the_table_beside_the_images(results: Path):
    (results.parent / "images" / "cases.csv").write_text("case,patient\nc0,p\nc9,q\n")
    assert reviewed_folder(results, HEADER).folder.about == {"c0": {"patient": "p"}}


def test_images_of_one_name_in_two_formats_are_two_cases(tmp_path: Path):
    results, images = discs(tmp_path, 1), tmp_path / "images"
    shutil.copy(images / "c0.png", images / "c0.bmp")
    (results / "c0_mask.bmp").write_bytes((results / "c0_mask.png").read_bytes())
    rows = json.loads((results / "predictions.json").read_text())["predictions"]
    rows.append({**rows[0], "input": str(images / "c0.bmp"), "mask": "c0_mask.bmp"})
    write_record(results, rows)
    for suffix in (".png", ".bmp"):
        source = str(images / f"c0{suffix}")
        keep_review(results, f"c0{suffix}", source, "accept", f"c0_mask{suffix}")
    cases = reviewed_folder(results, HEADER).folder.cases
    assert [case.name for case in cases] == ["c0.bmp", "c0.png"]


def test_a_series_is_reviewed_with_a_segmentation_of_dicom(tmp_path: Path):
    """The prediction is a DICOM-SEG; so is its correction, and both name their classes."""
    recipe = Recipe("x", DataSettings(2, (32, 32)), ImageUNetSettings(channels=(4, 6, 8)))
    model = member(tmp_path / "m.safetensors", recipe=recipe)
    rng = np.random.default_rng(0)
    series = [
        write_series(tmp_path / name, rng.integers(400, 600, (5, 12, 14))) for name in ("a", "b")
    ]
    results = tmp_path / "results"
    done = predict(model, series, results, Sampling(votes=1)).done
    header, like = read_header(model), read_image(series[1])
    corrected = np.zeros(like.shape, np.uint8)
    corrected[2:6, 3:9, 1:4] = 1
    from cdal.imaging.annotations.dicom_seg import write_segmentation

    (results / REVIEWED).mkdir()
    write_segmentation(results / REVIEWED / "b.dcm", corrected, like, header.classes, "x")
    keep_review(results, "a.dcm", done[0]["input"], "accept", done[0]["mask"])
    keep_review(results, "b.dcm", done[1]["input"], "fix")
    reviewed = reviewed_folder(results, header)
    assert reviewed.left_out == ()
    assert [case.name for case in reviewed.folder.cases] == ["a", "b"]
    assert (labels(reviewed)["b"] == corrected).all()


def test_the_series_of_a_folder_that_was_segmented_is_the_one_that_is_reviewed(tmp_path: Path):
    recipe = Recipe("x", DataSettings(2, (32, 32)), ImageUNetSettings(channels=(4, 6, 8)))
    model = member(tmp_path / "m.safetensors", recipe=recipe)
    rng, folder, results = np.random.default_rng(0), tmp_path / "scan", tmp_path / "results"
    write_series(folder, rng.integers(400, 600, (5, 12, 14)), description="T1")
    write_series(folder, rng.integers(400, 600, (3, 12, 14)), description="T2", first=10)
    (row,) = predict(model, [folder], results, Sampling(votes=1), series="T2").done
    keep_review(results, "scan.dcm", row["input"], "accept", row["mask"])
    (case,) = reviewed_folder(results, read_header(model)).folder.cases
    assert {path.name for path in case.slices} == {"IM0010", "IM0011", "IM0012"}


def test_channels_in_files_of_their_own_are_one_case(tmp_path: Path):
    recipe = Recipe("x", DataSettings(3, (16, 16, 16)), ImageUNetSettings(channels=(4, 6, 8)))
    model = member(tmp_path / "m.safetensors", recipe=recipe, channels=2, channel_files=True)
    rng = np.random.default_rng(0)
    for channel in range(2):
        array = rng.normal(size=(12, 13, 14)).astype(np.float32)
        save_nifti(tmp_path / "in" / f"a_{channel:04d}.nii.gz", array)
    results = tmp_path / "results"
    (row,) = predict(model, [tmp_path / "in"], results, Sampling(votes=1)).done
    keep_review(results, "a.nii.gz", row["input"], "accept", row["mask"])
    reviewed = reviewed_folder(results, read_header(model))
    (case,) = reviewed.folder.cases
    image, (label,) = read_case(case, reviewed.folder)
    assert image.array.shape == (2, 12, 13, 14)
    assert (label.array == read_label(results / "a_mask.nii.gz").array).all()


def test_channels_on_a_fourth_axis_are_no_time(tmp_path: Path):
    recipe = Recipe("x", DataSettings(3, (16, 16, 16)), ImageUNetSettings(channels=(4, 6, 8)))
    model = member(tmp_path / "m.safetensors", recipe=recipe, channels=2)
    array = np.random.default_rng(0).normal(size=(12, 13, 14, 2)).astype(np.float32)
    source = save_nifti(tmp_path / "in" / "a.nii.gz", array)
    results = tmp_path / "results"
    predict(model, [source], results, Sampling(votes=1))
    corrected = np.zeros((12, 13, 14), np.uint8)
    corrected[3:6, 2:5, 4:9] = 1
    (results / REVIEWED).mkdir()
    write_label(results / REVIEWED / "a", corrected, read_image(source, 2))
    keep_review(results, "a.nii.gz", str(source), "fix")
    reviewed = reviewed_folder(results, read_header(model))
    assert (labels(reviewed)["a"] == corrected).all()
    assert not check_listed(reviewed.folder).errors
