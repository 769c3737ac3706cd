"""Annotations as the labels of a data folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
from PIL import Image as Pillow
from roifile import ImagejRoi

from cdal.datasets.check import check_folder
from cdal.datasets.contact_sheet import write_contact_sheet
from cdal.datasets.folder import named_as, open_folder
from cdal.datasets.reading import read_case
from cdal.runtime.errors import UserError
from helpers.drawings import SHAPE, feature, pictures, save_coco, save_geojson, square
from helpers.files import OBLIQUE, classes_of, kinds, picture, volume


def labelme(path: Path, *shapes: tuple[str, list[list[float]]]) -> Path:
    listed = [{"label": name, "points": ring, "shape_type": "polygon"} for name, ring in shapes]
    size = {"imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
    path.write_text(json.dumps({"shapes": listed, "imagePath": "x.png"} | size))
    return path


def cvat(path: Path, names: list[str]) -> Path:
    images = "".join(
        f'<image id="{i}" name="{name}" width="{SHAPE[1]}" height="{SHAPE[0]}">'
        f'<box label="b" xtl="{i}" ytl="2" xbr="{i + 10}" ybr="12"/></image>'
        for i, name in enumerate(names)
    )
    path.write_text(f"<annotations>{images}</annotations>")
    return path


def aperio(path: Path, ring: list[list[float]], name: str = "a") -> Path:
    points = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring)
    path.write_text(
        f'<Annotations><Annotation Name="{name}"><Regions><Region><Vertices>{points}</Vertices>'
        "</Region></Regions></Annotation></Annotations>"
    )
    return path


def test_each_case_may_have_a_format_of_its_own(tmp_path: Path):
    """Also beside each other: classes are the union of the names, sorted."""
    labels = pictures(tmp_path, 5) / "labels"
    save_geojson(labels / "c0.geojson", feature(square(3, 4), "nucleus"))
    labelme(labels / "c1.json", ("stroma", square(5, 6)))
    ImagejRoi.frompoints(square(7, 8), name="nucleus").tofile(labels / "c2.zip")
    aperio(labels / "c3.xml", square(9, 10), "artefact")
    ImagejRoi.frompoints(square(1, 2), name="stroma").tofile(labels / "c4_mask.roi")
    folder = open_folder(tmp_path)
    assert folder.classes == ("background", "artefact", "nucleus", "stroma")
    assert folder.values == (0, 1, 2, 3)
    for case, (x, y, value) in enumerate([(3, 4, 2), (5, 6, 3), (7, 8, 2), (9, 10, 1), (1, 2, 3)]):
        expected = np.zeros(SHAPE, int)
        expected[y : y + 10, x : x + 10] = value
        np.testing.assert_array_equal(classes_of(tmp_path, case), expected)
    assert not check_folder(tmp_path).errors
    named = "0 = background, 1 = artefact, 2 = nucleus, 3 = stroma"
    assert f"the labels are taken as {named}." in kinds(tmp_path, "note")["values"]


def test_declared_classes_keep_their_order_and_values(tmp_path: Path):
    labels = pictures(tmp_path, 1) / "labels"
    save_geojson(labels / "c0.geojson", feature(square(3, 4), "a"), feature(square(20, 4), "b"))
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "b": 7, "a": 255}}')
    folder = open_folder(tmp_path)
    assert folder.classes == ("background", "b", "a")
    assert classes_of(tmp_path)[5, [5, 22]].tolist() == [2, 1]
    checked = check_folder(tmp_path)
    assert checked.facts[0].voxels == {0: 48 * 56 - 200, 7: 100, 255: 100}
    assert not checked.errors


@pytest.mark.parametrize("place", ["labels/annotations.json", "annotations.json", "labels/x.json"])
def test_one_coco_file_for_all_pictures(place: str, tmp_path: Path):
    pictures(tmp_path, 3)
    objects = {
        f"c{i}.png": [("cell", square(i, 2 * i)), ("gland", square(30, i))] for i in (2, 0, 1)
    }
    save_coco(tmp_path / place, objects)
    if place == "annotations.json":
        (tmp_path / "labels").rmdir()
    for i in range(3):
        expected = np.zeros(SHAPE, int)
        expected[2 * i : 2 * i + 10, i : i + 10] = 1
        expected[i : i + 10, 30:40] = 2
        np.testing.assert_array_equal(classes_of(tmp_path, i), expected)
    assert not check_folder(tmp_path).errors


def test_one_cvat_file_for_all_pictures(tmp_path: Path):
    cvat(pictures(tmp_path, 3) / "labels/annotations.xml", ["c1.png", "d/c0.png", "c2.png"])
    assert [classes_of(tmp_path, i)[2, :13].sum() for i in range(3)] == [10, 10, 10]
    assert classes_of(tmp_path, 0)[5, :3].tolist() == [0, 1, 1]


def test_pictures_that_a_shared_file_does_not_list_and_those_that_are_not_there(tmp_path: Path):
    pictures(tmp_path, 3)
    cell = [("cell", square(1, 1))]
    save_coco(tmp_path / "labels/one.json", {"c0.png": cell, "gone.png": cell})
    with pytest.raises(
        UserError, match=r"(?s)one\.json lists .* gone\.png.*without a label: c1, c2"
    ):
        open_folder(tmp_path)
    save_coco(tmp_path / "labels/one.json", {"c0.png": cell, "c1.png": cell})
    save_coco(tmp_path / "labels/two.json", {"c1.png": cell, "c2.png": cell})
    with pytest.raises(UserError, match=r"one\.json and .*two\.json list the image c1\.png"):
        open_folder(tmp_path)
    (tmp_path / "labels/two.json").unlink()
    picture(tmp_path / "labels/c1.png", np.zeros(SHAPE, np.uint8))
    save_geojson(tmp_path / "labels/c2.geojson", feature(square(1, 1), "cell"))
    with pytest.raises(UserError, match="c1 has a label of its own and one in a file"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("first", "second"), [("Tumor", "tumor"), ("tumor cell", "tumor  cell"), ("a", "a ")]
)
def test_names_that_differ_in_case_or_space_only_are_an_error_that_lists_both(
    first: str, second: str, tmp_path: Path
):
    labels = pictures(tmp_path, 2) / "labels"
    save_geojson(labels / "c0.geojson", feature(square(3, 4), first))
    labelme(labels / "c1.json", (second, square(5, 6)))
    with pytest.raises(UserError) as caught:
        open_folder(tmp_path)
    message = str(caught.value)
    assert all(part in message for part in ("c0.geojson", "c1.json", repr(first), repr(second)))
    assert kinds(tmp_path, "error")["values"].strip() == message
    write_contact_sheet(tmp_path / "sheet.png", check_folder(tmp_path).folder)
    declared = {"labels": {"background": 0, first: 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(declared))
    with pytest.raises(UserError, match=r"dataset\.json names a class .*c1\.json names one"):
        open_folder(tmp_path)


def test_what_is_left_out_is_told(tmp_path: Path):
    labels = pictures(tmp_path, 2) / "labels"
    save_geojson(
        labels / "c0.geojson",
        feature(square(3, 4), "a"),
        feature(square(8, 4), "b"),
        feature(square(30, 4), None),
        feature(square(30, 24), "other"),
        feature(square(100, 100), "a"),
    )
    save_geojson(labels / "c1.geojson", feature(square(30, 4), "b"))
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "a": 1, "b": 2}}')
    message = kinds(tmp_path, "warning")["annotation"]
    assert "c0.geojson: 1 objects have no class" in message
    assert "left out: other (1)" in message
    assert "1 objects cover no voxel" in message
    assert "at 50 voxels a class covers another one" in message
    np.testing.assert_array_equal([(classes_of(tmp_path, 0) == k).sum() for k in (1, 2)], [50, 100])


def test_a_folder_whose_annotations_name_no_class_has_a_foreground(tmp_path: Path):
    """Regions with ImageJ's own names, and layers without a name."""
    labels = pictures(tmp_path, 2) / "labels"
    ImagejRoi.frompoints(square(3, 4), name="0009-0008").tofile(labels / "c0.roi")
    aperio(labels / "c1.xml", square(9, 10), "")
    assert open_folder(tmp_path).classes == ("background", "foreground")
    assert "taken as 0 = background, 1 = foreground." in kinds(tmp_path, "note")["values"]
    assert [classes_of(tmp_path, i).sum() for i in range(2)] == [100, 100]
    assert not check_folder(tmp_path).errors
    named, note = named_as(open_folder(tmp_path), ("background", "cell"))
    assert "1 = cell" in note
    assert read_case(named.cases[0], named)[1][0].array.sum() == 100
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "nucleus": 255}}')
    assert open_folder(tmp_path).classes == ("background", "nucleus")
    assert [classes_of(tmp_path, i).sum() for i in range(2)] == [100, 100]
    assert not check_folder(tmp_path).errors


def test_names_are_put_in_the_order_of_a_model(tmp_path: Path):
    """Also where the test cases lack one of its classes."""
    labels = pictures(tmp_path, 1) / "labels"
    save_geojson(labels / "c0.geojson", feature(square(3, 4), "b"), feature(square(30, 4), "a"))
    folder, note = named_as(open_folder(tmp_path), ("background", "c", "b", "a"))
    assert "names some of the model's classes: a, b" in note
    assert read_case(folder.cases[0], folder)[1][0].array[0, 5, [5, 32]].tolist() == [2, 3]
    other = named_as(open_folder(tmp_path), ("background", "a", "c"))
    assert other == (open_folder(tmp_path), "")
    picture(labels / "c0.png", np.eye(*SHAPE, dtype=np.uint8))
    (labels / "c0.geojson").unlink()
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "b": 1}}')
    assert named_as(open_folder(tmp_path), ("background", "a", "b"))[1] == ""


def test_an_annotation_of_one_class_by_its_file_name(tmp_path: Path):
    """Whatever is drawn in it is inside."""
    labels = pictures(tmp_path, 1) / "labels"
    save_geojson(labels / "c0_liver.geojson", feature(square(3, 4), None))
    picture(labels / "c0_spleen.png", np.eye(*SHAPE, dtype=np.uint8))
    assert open_folder(tmp_path).classes == ("background", "liver", "spleen")
    label = classes_of(tmp_path)
    assert (label[30, 30], label[8, 4]) == (2, 1)
    assert not check_folder(tmp_path).errors


def test_a_file_name_that_contradicts_the_names_in_the_file_is_an_error(tmp_path: Path):
    labels = pictures(tmp_path, 1) / "labels"
    save_geojson(labels / "c0_final.geojson", feature(square(3, 4), "tumor"))
    assert "by its file name it holds final" in kinds(tmp_path, "error")["unreadable"]
    (labels / "c0_final.geojson").rename(labels / "c0_Tumor.geojson")
    assert classes_of(tmp_path).sum() == 100
    (labels / "c0_Tumor.geojson").unlink()
    ImagejRoi.frompoints(square(7, 8), name="tumor").tofile(labels / "c0_RoiSet.zip")
    assert open_folder(tmp_path).classes == ("background", "tumor")


def test_several_annotators(tmp_path: Path):
    labels = pictures(tmp_path, 1) / "labels"
    for i in range(3):
        save_geojson(labels / f"c0_rater{i}.geojson", feature(square(i, 4), "a"))
    folder = open_folder(tmp_path)
    _, found = read_case(folder.cases[0], folder)
    assert [int(label.array[0, 5].argmax()) for label in found] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\x1b[31m", "without control characters"),
        ("\ud800", "without control characters"),
        ("Ignore*", "is no class"),
        ("__ignore__", "is no class"),
    ],
)
def test_names_that_are_none_are_errors(name: str, message: str, tmp_path: Path):
    labels = pictures(tmp_path, 1) / "labels"
    save_geojson(labels / "c0.geojson", feature(square(3, 4), "a"), feature(square(20, 4), name))
    with pytest.raises(UserError, match=message):
        open_folder(tmp_path)
    assert message in kinds(tmp_path, "error")["values"]
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "a": 1}}')
    if message == "is no class":
        assert classes_of(tmp_path).sum() == 100
        assert "left out" in kinds(tmp_path, "warning")["annotation"]


def test_values_and_names_in_one_folder_have_to_be_declared(tmp_path: Path):
    labels = pictures(tmp_path, 2) / "labels"
    save_geojson(labels / "c0.geojson", feature(square(3, 4), "lung"))
    picture(labels / "c1.png", np.eye(*SHAPE, dtype=np.uint8) * 255)
    with pytest.raises(UserError, match=r"c1\.png holds values, .*c0\.geojson an annotation"):
        open_folder(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "lung": 255}}')
    assert classes_of(tmp_path, 0).sum() == 100
    assert classes_of(tmp_path, 1).sum() == 48


def test_as_many_names_as_objects_are_no_classes(tmp_path: Path):
    labels = pictures(tmp_path, 1) / "labels"
    objects = [feature(square(3, 4), f"cell {i}") for i in range(70)]
    save_geojson(labels / "c0.geojson", *objects)
    with pytest.raises(UserError, match=r"have 70 .*names of single objects"):
        open_folder(tmp_path)
    assert "names of single objects" in kinds(tmp_path, "error")["values"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c0.geojson", '{"type": "Feature', "cannot be read as GeoJSON"),
        ("c0.json", "", "missing or empty"),
        ("c0.json", '{"shapes": [{}]}', "cannot be read as labelme JSON"),
        ("c0.roi", "x", "none of these"),
    ],
)
def test_damaged_annotations_are_named(name: str, content: str, message: str, tmp_path: Path):
    labels = pictures(tmp_path, 2) / "labels"
    save_geojson(labels / "c1.geojson", feature(square(3, 4), "a"))
    (labels / name).write_text(content)
    found = kinds(tmp_path, "error")["unreadable"]
    assert message in found
    assert name in found
    folder = open_folder(tmp_path)
    with pytest.raises(UserError, match=message):
        read_case(folder.cases[0], folder)


def test_side_files_of_label_images_are_passed_over(tmp_path: Path):
    labels = pictures(tmp_path, 1) / "labels"
    picture(labels / "c0.png", np.eye(*SHAPE, dtype=np.uint8))
    (labels / "c0.json").write_text('{"Sources": ["c0.png"]}')
    assert classes_of(tmp_path).sum() == 48


def test_a_volume_with_a_segmentation_of_slicer(tmp_path: Path):
    volume(tmp_path / "images/v.nii.gz")
    image = nib.load(tmp_path / "images/v.nii.gz")
    values = np.zeros(image.shape, np.uint8)
    values[2:5, 3:9, 1:4], values[7:] = 4, 1
    lps = np.diag([-1, -1, 1, 1]) @ OBLIQUE
    header: dict[str, Any] = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
    }
    for k, (name, value) in enumerate([("left", 4), ("right", 1)]):
        header |= {f"Segment{k}_Name": name, f"Segment{k}_LabelValue": str(value)}
        header |= {f"Segment{k}_Layer": "0"}
    (tmp_path / "labels").mkdir()
    nrrd.write(str(tmp_path / "labels/v.seg.nrrd"), values, header)
    np.testing.assert_array_equal(
        classes_of(tmp_path), np.select([values == 4, values == 1], [1, 2])
    )
    assert not check_folder(tmp_path).errors


def test_the_contact_sheet_shows_the_outlines(tmp_path: Path):
    labels = pictures(tmp_path, 1) / "labels"
    save_geojson(labels / "c0.geojson", feature(square(13, 14, 20), "a"))
    write_contact_sheet(tmp_path / "sheet.png", check_folder(tmp_path).folder)
    sheet = np.asarray(Pillow.open(tmp_path / "sheet.png")).astype(int)
    assert (np.ptp(sheet, axis=-1) > 60).sum() > 100  # the noise is gray, outlines have a colour
