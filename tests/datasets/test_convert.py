"""Labels in other forms and back again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from roifile import ImagejRoi

from cdal.cli import main
from cdal.datasets.convert import FORMS, convert_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.imaging.formats import read_image, read_label, stem_of
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event
from helpers.drawings import feature, pictures, save_coco, save_geojson, square
from helpers.files import affines, disc_folder, picture, save_nifti, write_series
from helpers.layouts import FOLDERS

PLANAR = ("geojson", "coco")


def values_of(root: Path) -> dict[str, np.ndarray]:
    """The values in the label images of a folder."""
    return {stem_of(p): read_label(p).array[0] for p in sorted((root / "labels").iterdir())}


def classes(root: Path) -> Iterator[np.ndarray]:
    """The classes that each annotator of each case of a folder chose."""
    folder = open_folder(root)
    for case in folder.cases:
        yield from (label.array[0] for label in read_case(case, folder)[1])


def masks(root: Path, seed: int, raters: int, shape: tuple[int, ...] = (9, 13)) -> Path:
    """Random masks of the values 0, 3 and 200; the first is empty."""
    rng = np.random.default_rng(seed)
    for i in range(2):
        picture(root / "images" / f"c{i}.png", rng.integers(0, 255, shape).astype(np.uint8))
        for k in range(raters):
            mask = rng.choice([0, 3, 200], shape).astype(np.uint8) * (i + k > 0)
            name = f"c{i}_rater{2 * k}" if raters > 1 else f"c{i}"
            picture(root / "labels" / f"{name}.png", mask.astype(np.uint8))
    declared = {"labels": {"background": 0, "Schädel links": 200, "b": 3}, "licence": "free"}
    (root / "dataset.json").write_text(json.dumps(declared))
    (root / "cases.csv").write_text("case,patient\nc0,p0\nc1,p1\n")
    return root


@given(st.integers(0, 10_000), st.integers(1, 2))
@settings(max_examples=4, deadline=None)
@pytest.mark.parametrize("form", ["masks", "geojson", "coco", "seg.nrrd"])
def test_masks_of_pictures_come_back_as_they_were(form: str, seed: int, raters: int):
    with TemporaryDirectory() as scratch:
        root = masks(Path(scratch) / "a", seed, raters)
        there, back = Path(scratch) / "b", Path(scratch) / "c"
        convert_folder(root, there, form)
        assert open_folder(there).classes == open_folder(root).classes
        for ours, original in zip(classes(there), classes(root), strict=True):
            np.testing.assert_array_equal(ours, original)
        convert_folder(there, back, "masks")
        for name, values in values_of(root).items():
            numbered = np.select([values == 3, values == 200], [1, 2])
            expected = values if form == "masks" else numbered
            np.testing.assert_array_equal(values_of(back)[name], expected)


@given(affines(), st.integers(0, 10_000))
@settings(max_examples=4, deadline=None)
@pytest.mark.parametrize("form", ["masks", "seg.nrrd"])
def test_masks_of_volumes_come_back_with_their_place(form: str, affine: np.ndarray, seed: int):
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as scratch:
        root = Path(scratch) / "a"
        save_nifti(root / "images/v.nii.gz", rng.normal(size=(6, 7, 5)).astype(np.float32), affine)
        mask = rng.integers(0, 3, (6, 7, 5)).astype(np.uint8)
        save_nifti(root / "labels/v.nii.gz", mask, affine)
        there, back = Path(scratch) / "b", Path(scratch) / "c"
        convert_folder(root, there, form)
        convert_folder(there, back, "masks")
        label = read_label(back / "labels/v.nii.gz")
        np.testing.assert_array_equal(label.array[0], mask)
        np.testing.assert_allclose(label.affine, affine, atol=1e-4)
        assert open_folder(back).classes == ("background", "class 1", "class 2")


def test_names_values_and_tables_are_kept(tmp_path: Path):
    root = masks(tmp_path / "a", 0, 1)
    convert_folder(root, tmp_path / "b", "masks")
    declared = json.loads((tmp_path / "b/dataset.json").read_text(encoding="utf-8"))
    labels = {"background": 0, "b": 3, "Schädel links": 200}
    assert declared == {"labels": labels, "licence": "free"}
    assert (tmp_path / "b/cases.csv").read_bytes() == (root / "cases.csv").read_bytes()
    for name, values in values_of(root).items():
        np.testing.assert_array_equal(values_of(tmp_path / "b")[name], values)
    for path in (root / "images").iterdir():
        assert (tmp_path / "b/images" / path.name).read_bytes() == path.read_bytes()
    convert_folder(root, tmp_path / "c", "geojson")
    numbered = json.loads((tmp_path / "c/dataset.json").read_text(encoding="utf-8"))["labels"]
    assert numbered == {"background": 0, "b": 1, "Schädel links": 2}


def test_annotators_stay_several_and_keep_their_numbers(tmp_path: Path):
    root = masks(tmp_path / "a", 0, 3)
    for form, suffix in {"coco": ".json", "geojson": ".geojson", "seg.nrrd": ".seg.nrrd"}.items():
        convert_folder(root, tmp_path / form, form)
        names = sorted(path.name for path in (tmp_path / form / "labels").iterdir())
        assert names == [f"c{i}_rater{k}{suffix}" for i in range(2) for k in (0, 2, 4)]
        for ours, original in zip(classes(tmp_path / form), classes(root), strict=True):
            np.testing.assert_array_equal(ours, original)


def test_what_people_drew_becomes_masks(tmp_path: Path):
    labels = pictures(tmp_path / "a", 2) / "labels"
    save_geojson(labels / "c0.geojson", feature(square(3, 4), "a"), feature(square(5, 6), "b"))
    ImagejRoi.frompoints(square(7, 8), name="b").tofile(labels / "c1.zip")
    convert_folder(tmp_path / "a", tmp_path / "b", "masks")
    first = np.asarray(Pillow.open(tmp_path / "b/labels/c0.png"))
    assert [(first == k).sum() for k in (1, 2)] == [100 - 64, 100]
    assert (np.asarray(Pillow.open(tmp_path / "b/labels/c1.png"))[8:18, 7:17] == 2).all()


def test_channels_in_files_of_their_own_stay_one_image(tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(2):
        for c in range(2):
            save_nifti(tmp_path / f"a/imagesTr/c{i}_000{c}.nii.gz", rng.normal(size=(4, 5, 6)))
        save_nifti(tmp_path / f"a/labelsTr/c{i}.nii.gz", rng.integers(0, 2, (4, 5, 6), np.uint8))
    convert_folder(tmp_path / "a", tmp_path / "b", "seg.nrrd")
    folder = open_folder(tmp_path / "b")
    assert read_case(folder.cases[0], folder)[0].array.shape == (2, 4, 5, 6)


def test_dicom_keeps_its_files_and_gets_segmentations_that_refer_to_them(tmp_path: Path):
    """Oracle: highdicom's own reader."""
    write_series(tmp_path / "a/images/s", np.arange(4 * 6 * 7).reshape(4, 6, 7).astype(np.uint16))
    (tmp_path / "a/labels").mkdir()
    image = read_image(tmp_path / "a/images/s")
    mask = np.random.default_rng(0).integers(0, 3, image.shape).astype(np.uint8)
    save_nifti(tmp_path / "a/labels/s.nii.gz", mask, image.affine)
    declared = {"labels": {"background": 0, "Schädel links": 1, "b": 2}}
    (tmp_path / "a/dataset.json").write_text(json.dumps(declared))
    convert_folder(tmp_path / "a", tmp_path / "b", "dicom-seg")
    stored = sorted(path.name for path in (tmp_path / "a/images/s").iterdir())
    assert sorted(path.name for path in (tmp_path / "b/images/s").iterdir()) == stored
    found = hd.seg.segread(tmp_path / "b/labels/s.dcm").get_volume(combine_segments=True)
    found = found.match_geometry(image.header.volume)
    np.testing.assert_array_equal(found.array, mask)
    (ours,) = classes(tmp_path / "b")
    np.testing.assert_array_equal(ours, mask)
    (tmp_path / "b/dataset.json").unlink()
    assert set(open_folder(tmp_path / "b").classes) == {"background", "Schädel links", "b"}
    (tmp_path / "b/dataset.json").write_text(json.dumps(declared))
    convert_folder(tmp_path / "b", tmp_path / "c", "masks")
    label = read_label(tmp_path / "c/labels/s.nii.gz")
    np.testing.assert_array_equal(label.array[0], mask)
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-4)


def test_names_that_dicom_cannot_hold_are_refused(tmp_path: Path):
    write_series(tmp_path / "a/images/s", np.arange(4 * 6 * 7).reshape(4, 6, 7).astype(np.uint16))
    image = read_image(tmp_path / "a/images/s")
    mask = np.zeros(image.shape, np.uint8)
    save_nifti(tmp_path / "a/labels/s.nii.gz", mask, image.affine)
    declared = {"labels": {"background": 0, "x" * 65: 1}}
    (tmp_path / "a/dataset.json").write_text(json.dumps(declared))
    with pytest.raises(UserError, match="of up to 64 characters"):
        convert_folder(tmp_path / "a", tmp_path / "b", "dicom-seg")
    assert not (tmp_path / "b").exists()


def test_other_layouts_become_the_plain_one(tmp_path: Path):
    """Parts in folders, which become the column `split`; and a table of one file for all images."""
    disc_folder(tmp_path / "parts/train", 3)
    disc_folder(tmp_path / "parts/test", 2)
    for path in (tmp_path / "parts/test").rglob("*.png"):
        path.rename(path.with_name(f"t{path.name}"))
    convert_folder(tmp_path / "parts", tmp_path / "b", "geojson")
    folder, source = open_folder(tmp_path / "b"), open_folder(tmp_path / "parts")
    assert [case.name for case in folder.cases] == [case.name for case in source.cases]
    assert {n: row["split"] for n, row in folder.about.items()} == {
        name: row["split"] for name, row in source.about.items()
    }
    pictures(tmp_path / "c", 2)
    objects = {f"c{i}.png": [("cell", square(i, 2 * i))] for i in range(2)}
    save_coco(tmp_path / "c/labels/all.json", objects)
    rows = "".join(f"images/c{i}.png,labels/all.json,p{i}\n" for i in range(2))
    (tmp_path / "c/list.csv").write_text(f"image,label,patient\n{rows}")
    convert_folder(tmp_path / "c/list.csv", tmp_path / "d", "masks")
    assert (tmp_path / "d/cases.csv").read_text() == "case,patient\nc0,p0\nc1,p1\n"
    assert [label.sum() for label in classes(tmp_path / "d")] == [100, 100]


def test_voxels_beside_their_header_come_along(tmp_path: Path):
    root = tmp_path / "a"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(root / "images/v.mhd"))
    sitk.WriteImage(
        sitk.GetImageFromArray((volume > 0).astype(np.uint8)), str(root / "labels/v.mha")
    )
    convert_folder(root, tmp_path / "b", "seg.nrrd")
    (label,) = classes(tmp_path / "b")
    np.testing.assert_array_equal(label.transpose(2, 1, 0), volume > 0)


def test_what_a_form_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path):
    rng = np.random.default_rng(0)
    save_nifti(tmp_path / "v/images/v.nii.gz", rng.normal(size=(4, 5, 6)))
    save_nifti(tmp_path / "v/labels/v.nii.gz", rng.integers(0, 2, (4, 5, 6), np.uint8))
    disc_folder(tmp_path / "p", 2)
    before = sorted(path.name for path in tmp_path.iterdir())
    for form in PLANAR:
        with pytest.raises(UserError, match=f"is a volume, and {form} is for pictures"):
            convert_folder(tmp_path / "v", tmp_path / "out", form)
    with pytest.raises(UserError, match="refers to DICOM images"):
        convert_folder(tmp_path / "p", tmp_path / "out", "dicom-seg")
    with pytest.raises(UserError, match="expected one of the forms masks, geojson"):
        convert_folder(tmp_path / "p", tmp_path / "out", "png")
    with pytest.raises(UserError, match="Give a target beside it"):
        convert_folder(tmp_path / "p", tmp_path / "p/images/out", "coco")
    picture(tmp_path / "p/masks/c1.png", np.ones((3, 3), np.uint8))
    with pytest.raises(UserError, match=r"c1\.png"):
        convert_folder(tmp_path / "p", tmp_path / "out", "coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(UserError, match="is not empty; nothing was changed"):
        convert_folder(tmp_path / "p", tmp_path / "full", "masks")


def test_progress_is_told_and_a_stop_leaves_nothing(tmp_path: Path):
    root = masks(tmp_path / "a", 0, 1)
    events: list[Event] = []
    convert_folder(root, tmp_path / "b", "coco", events.append)
    assert [(event.task, event.name, event.done) for event in events] == [
        ("converting", "c0", 1),
        ("converting", "c1", 2),
    ]

    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_folder(root, tmp_path / "c", "masks", stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = masks(tmp_path / "a", 0, 1)
    assert main(["data", "convert", str(root), str(tmp_path / "b"), "--to", "geojson"]) == 0
    assert capsys.readouterr().out == f"2 cases in {tmp_path / 'b'}\n"
    assert main(["data", "convert", str(root), str(tmp_path / "b"), "--to", "geojson"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert set(FORMS) == {"masks", "geojson", "coco", "seg.nrrd", "dicom-seg"}


@pytest.mark.parametrize("layout", ["parts", "BIDS", "table"])
def test_what_a_layout_says_of_cases_is_kept(layout: str, tmp_path: Path):
    root = FOLDERS[layout](tmp_path / "a")
    before = open_folder(root)
    convert_folder(root, tmp_path / "b", "masks")
    after = open_folder(tmp_path / "b")
    assert [case.name for case in after.cases] == [case.name for case in before.cases]
    for case in before.cases:
        known = {k: v for k, v in before.about[case.name].items() if k not in ("image", "label")}
        assert after.about[case.name] == known
