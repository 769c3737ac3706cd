"""What `cdal check` finds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.cli import main
from cdal.datasets.cases import load_cases
from cdal.datasets.check import check_folder
from cdal.datasets.derive import folder_recipe
from cdal.datasets.folder import open_folder
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.training.train import train
from helpers.files import change, disc, disc_folder, kinds, picture, save_nifti


def test_a_good_folder_has_no_findings(tmp_path: Path):
    checked = check_folder(disc_folder(tmp_path))
    assert [finding for finding in checked.findings if finding.level != "note"] == []
    assert checked.folder.classes == ("background", "foreground")
    assert len(checked.facts) == 6


def break_truncated(root: Path) -> None:
    path = root / "images" / "c2.png"
    path.write_bytes(path.read_bytes()[:100])


def numbered_masks(root: Path) -> None:
    """Objects with numbers of their own: few in each image, many in all."""
    for i in range(6):
        numbers = disc().astype(np.uint16) * (1 + np.arange(64)[:, None] // 2 + 32 * i)
        picture(root / "masks" / f"c{i}.png", numbers.astype(np.uint16))


def jpeg_mask(root: Path) -> None:
    mask = Pillow.open(root / "masks/c2.png")
    (root / "masks/c2.png").unlink()
    Pillow.fromarray(np.asarray(mask) * 255).save(root / "masks/c2.jpg", quality=60)


ERRORS = {
    "missing mask": (
        lambda r: (r / "masks/c2.png").unlink(),
        "missing",
        "image without a label: c2",
    ),
    "missing image": (
        lambda r: (r / "images/c2.png").unlink(),
        "missing",
        "label without an image: c2",
    ),
    "unreadable": (break_truncated, "unreadable", "c2.png"),
    "another shape": (lambda r: change(r, "masks/c2.png", lambda m: m[:-4]), "shape", "c2.png"),
    "constant": (
        lambda r: change(r, "images/c2.png", lambda m: m * 0 + 7),
        "constant",
        "every voxel is 7",
    ),
    "interpolated": (
        lambda r: change(
            r, "masks/c2.png", lambda m: np.arange(m.size).reshape(m.shape).astype(np.uint8)
        ),
        "values",
        "c2",
    ),
    "jpeg mask": (lambda r: jpeg_mask(r), "values", "JPEG changed"),
    "many values": (
        lambda r: numbered_masks(r),
        "values",
        "expected a label image with a value for each class",
    ),
    "no case of this name": (
        lambda r: (r / "cases.csv").write_text("case,patient\nc0.png,a\n"),
        "table",
        "no case has this name",
    ),
    "two codings": (
        lambda r: change(r, "masks/c2.png", lambda m: m * 255),
        "values",
        "1 masks hold 0 and 255 (c2), others 0 and 1",
    ),
}


@pytest.mark.parametrize("fault", ERRORS)
def test_faults_are_found_and_stop_a_training(fault: str, tmp_path: Path):
    break_it, kind, message = ERRORS[fault]
    break_it(disc_folder(tmp_path / "data"))
    found = kinds(tmp_path / "data", "error")
    assert kind in found
    assert message in found[kind]
    with pytest.raises(UserError, match="cdal check"):
        train(
            replace(folder_recipe(check_folder(disc_folder(tmp_path / "good"))).recipe),
            tmp_path / "data",
            tmp_path / "run",
            "cpu",
        )
    assert not (tmp_path / "run").exists()
    assert main(["check", str(tmp_path / "data")]) == 2


WARNINGS = {
    "empty mask": (
        lambda r: change(r, "masks/c2.png", lambda m: m * 0),
        "empty",
        "c2.png: the mask is empty",
    ),
    "inverted mask": (
        lambda r: change(r, "masks/c2.png", lambda m: np.ones_like(m)),
        "values",
        "inverted",
    ),
    "twice": (
        lambda r: (r / "images/c3.png").write_bytes((r / "images/c2.png").read_bytes()),
        "duplicate",
        "c2, c3: the same image",
    ),
    "colour": (
        lambda r: change(r, "images/c2.png", lambda m: np.stack([m, 255 - m, m], axis=-1)),
        "channels",
        "5 of 1 channel(s), 1 of 3 channel(s)",
    ),
    "depths": (
        lambda r: change(r, "images/c2.png", lambda m: m.astype(np.uint16) * 200),
        "type",
        "5 uint8, 1 uint16",
    ),
    "numbered objects": (
        lambda r: [
            change(
                r,
                f"masks/c{i}.png",
                lambda m, i=i: m * (1 + np.arange(64)[:, None] // 20 + 4 * i).astype(np.uint8),
            )
            for i in range(6)
        ],
        "values",
        "numbered objects",
    ),
    "strange file": (lambda r: (r / "images/notes.pdf").write_text("x"), "ignored", "notes.pdf"),
}


@pytest.mark.parametrize("fault", WARNINGS)
def test_oddities_are_reported(fault: str, tmp_path: Path):
    break_it, kind, message = WARNINGS[fault]
    break_it(disc_folder(tmp_path))
    found = kinds(tmp_path, "warning")
    assert kind in found
    assert message in found[kind]
    assert not check_folder(tmp_path).errors


def test_volumes_out_of_place_are_found(tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(6):
        save_nifti(
            tmp_path / "images" / f"v{i}.nii.gz", rng.normal(size=(8, 9, 10)).astype(np.float32)
        )
        save_nifti(
            tmp_path / "labels" / f"v{i}.nii.gz", rng.integers(2, size=(8, 9, 10)).astype(np.uint8)
        )
    assert not check_folder(tmp_path).errors
    save_nifti(
        tmp_path / "labels" / "v0.nii.gz",
        rng.integers(2, size=(8, 9, 10)).astype(np.uint8),
        np.diag([1, 1, 2.0, 1]),
    )
    save_nifti(tmp_path / "images" / "v1.nii.gz", np.full((8, 9, 10), np.nan, np.float32))
    wide = np.diag([9.0, 9.0, 9.0, 1])
    save_nifti(
        tmp_path / "images" / "v2.nii.gz", rng.normal(size=(8, 9, 10)).astype(np.float32), wide
    )
    save_nifti(
        tmp_path / "labels" / "v2.nii.gz", rng.integers(2, size=(8, 9, 10)).astype(np.uint8), wide
    )
    errors = kinds(tmp_path, "error")
    assert "affine" in errors["affine"]
    assert "720 voxels are NaN" in errors["not-finite"]
    assert "9 x 9 x 9 mm" in kinds(tmp_path, "warning")["spacing"]


def test_the_same_image_in_training_and_test_is_an_error(tmp_path: Path):
    disc_folder(tmp_path)
    (tmp_path / "images/c3.png").write_bytes((tmp_path / "images/c2.png").read_bytes())
    (tmp_path / "splits.json").write_text(json.dumps({"mine": [{"test": ["c0", "c3"]}]}))
    assert "fold 0 of mine" in kinds(tmp_path, "error")["partition"]
    (tmp_path / "splits.json").unlink()
    rows = "".join(f"c{i},{'test' if i < 3 else 'train'}\n" for i in range(6))
    (tmp_path / "cases.csv").write_text("case,split\n" + rows)
    assert "column `split`" in kinds(tmp_path, "error")["partition"]


def test_undeclared_values_get_a_proposal(tmp_path: Path):
    disc_folder(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "disc": 1}}')
    change(tmp_path, "masks/c2.png", lambda m: m * 3)
    message = kinds(tmp_path, "error")["values"]
    assert '"class 3": 3' in message
    with pytest.raises(UserError, match=r"it holds 3"):
        load_cases(
            open_folder(tmp_path).cases,
            open_folder(tmp_path),
            DataSettings(spatial_dims=2, size=(64, 64)),
        )


@pytest.mark.parametrize("broken", ["dataset.json", "splits.json", "cases.csv"])
def test_broken_tables_are_refused(broken: str, tmp_path: Path):
    (disc_folder(tmp_path) / broken).write_text(
        "{" if broken.endswith("json") else "name,patient\na,b\n"
    )
    with pytest.raises(UserError, match=broken):
        check_folder(tmp_path)


def test_the_command_prints_a_table_or_json_and_draws_a_sheet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    change(disc_folder(tmp_path / "data"), "masks/c2.png", lambda m: m * 0)
    assert main(["check", str(tmp_path / "data"), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "0 errors, 1 warning, 1 note" in capsys.readouterr().out
    sheet = np.asarray(Pillow.open(tmp_path / "sheet.png"))
    assert (sheet == (230, 159, 0)).all(
        axis=-1
    ).sum() > 5 * 100  # the outlines of five discs, in the colour of class 1
    assert main(["check", str(tmp_path / "data"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["cases"], shown["errors"], shown["classes"]) == (
        6,
        0,
        {"background": 0, "foreground": 1},
    )
    assert {"level", "kind", "case", "message"} == set(shown["findings"][0])


def test_annotations_without_an_object_are_an_error_and_few_cases_a_note(tmp_path: Path):
    for i in range(2):
        picture(tmp_path / f"images/c{i}.png", np.arange(144, dtype=np.uint8).reshape(12, 12) + i)
        (tmp_path / "labels").mkdir(exist_ok=True)
        collection = '{"type": "FeatureCollection", "features": []}'
        (tmp_path / f"labels/c{i}.geojson").write_text(collection)
    assert "nothing to learn" in kinds(tmp_path, "error")["empty"]
    assert "at least 3 cases" in kinds(tmp_path, "note")["missing"]


def test_of_no_case_no_values_are_told(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    checked = check_folder(tmp_path)
    assert checked.errors and not checked.folder.cases
    assert not any("labels are taken as" in finding.message for finding in checked.findings)


def test_a_table_of_paths_in_the_folder_is_named(tmp_path: Path):
    (tmp_path / "cases.csv").write_text("image,label\nscans/a.png,drawn/a.png\n")
    with pytest.raises(UserError, match=r"give that instead: .*cases\.csv"):
        check_folder(tmp_path)
