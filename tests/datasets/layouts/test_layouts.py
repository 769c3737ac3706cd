"""Every layout gives the same cases, and none is guessed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.layouts import LAYOUTS, find_layout
from cdal.datasets.reading import read_case
from cdal.runtime.errors import UserError
from helpers.layouts import FOLDERS, flat, image, label, pair, pairs, parts


def test_every_layout_is_tried_and_described():
    others = {"DICOM studies"}  # `test_studies.py`
    assert set(FOLDERS) | others == {layout.name for layout in LAYOUTS}
    page = Path(__file__).parents[3] / "docs" / "reference" / "data-folder.md"
    rows = page.read_text(encoding="utf-8").partition("| layout |")[2].partition("\n\n")[0]
    assert all(f"| [{layout.name}](" in rows for layout in LAYOUTS)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_layout_is_recognised_and_gives_each_image_its_own_label(name: str, tmp_path: Path):
    root = FOLDERS[name](tmp_path)
    assert find_layout(root)[0].name == name
    checked = check_folder(root)
    assert [finding for finding in checked.findings if finding.level != "note"] == []
    folder = open_folder(root)
    assert len(folder.cases) == 6
    for i, case in enumerate(folder.cases):
        read, labels = read_case(case, folder)
        slices = [
            array if array.ndim == 2 else array[..., 0]
            for array in (read.array[0], labels[0].array[0])
        ]
        np.testing.assert_array_equal(slices[0], image(i))
        np.testing.assert_array_equal(slices[1], label(i))


@pytest.mark.parametrize("name", FOLDERS)
def test_the_command_says_which_layout_it_saw(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = FOLDERS[name](tmp_path)
    assert main(["check", str(root)]) == 0
    assert f"layout: {name}: " in capsys.readouterr().out
    assert main(["check", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layout"].startswith(f"{name}: ")


def both(*names: str):
    """A folder that has several layouts at once."""

    def write(root: Path) -> None:
        for name in names:
            FOLDERS[name](root)

    return write


AMBIGUOUS = {
    "labels and masks": (
        lambda r: [pairs(r), pair(r / "images/c0.png", r / "masks/c0.png", 0)],
        ("images/ and labels/", "images/ and masks/"),
    ),
    "pairs and parts": (both("pairs", "parts"), ("pairs", "parts")),
    "pairs and flat": (both("pairs", "flat"), ("images/ and labels/", "c0_mask beside")),
    "Decathlon and pairs": (both("Decathlon", "pairs"), ("imagesTr/ and labelsTr/", "images/")),
    "two modalities": (
        lambda r: [
            FOLDERS["BIDS"](r),
            pair(r / "sub-0/anat/sub-0_T2w.nii.gz", r / "derivatives/x.nii.gz", 0),
        ],
        ("*_T1w", "*_T2w"),
    ),
    "two derivatives": (
        lambda r: [
            FOLDERS["BIDS"](r),
            pair(r / "x.nii.gz", r / "derivatives/auto/sub-0/anat/sub-0_dseg.nii.gz", 0),
        ],
        ("derivatives/manual/", "derivatives/auto/"),
    ),
    "two kinds of one derivative": (
        lambda r: [
            FOLDERS["BIDS"](r),
            pair(r / "x.nii.gz", r / "derivatives/manual/sub-0/anat/sub-0_desc-b_dseg.nii.gz", 0),
        ],
        ("*_dseg", "*_desc-b_dseg"),
    ),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_folder_with_two_readings_is_refused_with_both(name: str, tmp_path: Path):
    write, readings = AMBIGUOUS[name]
    write(tmp_path)
    with pytest.raises(UserError, match="several ways") as error:
        check_folder(tmp_path)
    assert all(reading in str(error.value) for reading in readings)


def test_a_folder_without_a_layout_is_told_of_all(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError, match="it holds pictures") as error:
        open_folder(tmp_path)
    _, first, *others, last = str(error.value).splitlines()
    assert first == "  images/ and labels/ (or masks/)"
    assert {first, *others} == {f"  {layout.expected}" for layout in LAYOUTS[1:]}
    assert "table (.csv) with the columns image and label" in last
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match="expected a data folder, or a table"):
        open_folder(tmp_path / "a.txt")


def test_flat_folders_know_the_words_for_masks(tmp_path: Path):
    for i, end in enumerate(("_mask", "_seg", "_label", "-mask", "_segmentation", ".mask", "_GT")):
        pair(tmp_path / f"a{i}.png", tmp_path / f"a{i}{end}.PNG", i)
    assert [case.name for case in open_folder(tmp_path).cases] == [f"a{i}" for i in range(7)]
    pair(tmp_path / "alone.png", tmp_path / "other/x.png", 0)
    with pytest.raises(UserError, match="image without a label: alone"):
        open_folder(tmp_path)


def test_two_masks_of_one_picture_are_refused(tmp_path: Path):
    flat(tmp_path)
    pair(tmp_path / "other/x.png", tmp_path / "c0_seg.png", 0)
    with pytest.raises(UserError, match="c0 has labels of several kinds"):
        open_folder(tmp_path)


def test_parts_give_the_split(tmp_path: Path):
    folder = check_folder(parts(tmp_path)).folder
    assert {name: row["split"] for name, row in folder.about.items()} == {
        **{f"c{i}": "train" for i in range(4)},
        "c4": "validation",
        "c5": "test",
    }


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda r: pair(r / "test/images/c0.png", r / "test/masks/c0.png", 9),
            "c0.png have the same name in two parts",
        ),
        (lambda r: (r / "test").rename(r / "valid"), "expected a folder test/"),
        (lambda r: (r / "test/images/c5.png").unlink(), "holds no image"),
        (
            lambda r: pair(r / "test/c9.png", r / "test/c9_mask.png", 9),
            "it holds images/ and masks/; or masks such as c9_mask",
        ),
        (
            lambda r: pair(r / "holdout/c9.png", r / "holdout/c9_mask.png", 9),
            "none of train, validation and test",
        ),
    ],
)
def test_parts_that_cannot_be_used_are_found(break_it, message: str, tmp_path: Path):
    break_it(parts(tmp_path))
    assert any(message in finding.message for finding in check_folder(tmp_path).findings)


def test_parts_may_be_flat_and_contradict_no_table(tmp_path: Path):
    for i, part in enumerate(("Train", "Train", "Test")):
        pair(tmp_path / part / f"c{i}.png", tmp_path / part / f"c{i}_mask.png", i)
    assert open_folder(tmp_path).about["c2"]["split"] == "test"
    (tmp_path / "cases.csv").write_text("case,patient,split\nc2,p,test\n")
    assert open_folder(tmp_path).about["c2"] == {"case": "c2", "patient": "p", "split": "test"}
    (tmp_path / "cases.csv").write_text("case,split\nc2,train\n")
    with pytest.raises(UserError, match="c2 has the split train; by its folder it is test"):
        open_folder(tmp_path)


def test_a_store_may_hold_images_without_labels(tmp_path: Path):
    FOLDERS["MONAI Label"](tmp_path)
    pair(tmp_path / "new.nii.gz", tmp_path / "labels/original/new.nii.gz", 0)
    pair(tmp_path / "other/x.nii.gz", tmp_path / "labels/original/c0.nii.gz", 3)
    checked = check_folder(tmp_path)
    assert not checked.errors
    assert len(checked.folder.cases) == 6
    assert checked.folder.cases[0].labels[0].paths[0].parent.name == "final"
    text = "\n".join(finding.message for finding in checked.findings)
    assert "images without a label" in text
    assert "new" in text
    assert "proposed labels: c0.nii.gz, new.nii.gz" in text


def test_labels_that_a_model_proposed_are_named_so(tmp_path: Path):
    pair(tmp_path / "a.nii.gz", tmp_path / "labels/original/a.nii.gz", 0)
    messages = [finding.message for finding in check_folder(tmp_path).findings]
    assert any("those that a model proposed" in message for message in messages)
    pair(tmp_path / "b.nii.gz", tmp_path / "labels/original/gone.nii.gz", 0)
    with pytest.raises(UserError, match="label without an image: gone"):
        open_folder(tmp_path)


def test_sessions_of_a_subject_are_one_patient(tmp_path: Path):
    for i in range(6):
        place = f"sub-{i // 2}/ses-{i % 2}/anat/sub-{i // 2}_ses-{i % 2}"
        pair(
            tmp_path / f"{place}_run-1_T1w.nii.gz",
            tmp_path / f"derivatives/manual/{place}_run-1_space-orig_dseg.nii.gz",
            i,
        )
    (tmp_path / "sub-0/ses-0/anat/sub-0_ses-0_run-1_T1w.json").write_text("{}")
    folder = open_folder(tmp_path)
    assert [case.name for case in folder.cases][:2] == ["sub-0_ses-0_run-1", "sub-0_ses-1_run-1"]
    assert [folder.about[case.name]["patient"] for case in folder.cases] == [
        f"sub-{i // 2}" for i in range(6)
    ]
    (tmp_path / "sub-0/ses-0/anat/sub-0_ses-0_run-1_T1w.nii.gz").unlink()
    with pytest.raises(UserError, match="label without an image: sub-0_ses-0_run-1"):
        open_folder(tmp_path)
