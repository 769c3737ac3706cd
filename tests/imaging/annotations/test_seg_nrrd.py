"""Segmentations of 3D Slicer, against SimpleITK."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from cdal.imaging.annotations import draw
from cdal.imaging.annotations.seg_nrrd import write
from cdal.imaging.formats import read_image
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from helpers.annotations import known
from helpers.files import OBLIQUE, affines

LPS = np.diag([-1.0, -1, 1, 1])
SHAPE = (9, 11, 7)


def slicer_header(affine: np.ndarray, segments: list[dict[str, str]], layers: int = 1) -> dict:
    """The header that Slicer writes, from its documentation of segmentation files."""
    lps = LPS @ affine
    directions = lps[:3, :3].T
    header: dict[str, Any] = {
        "space": "left-posterior-superior",
        "kinds": ["domain"] * 3,
        "space directions": directions,
        "encoding": "gzip",
        "space origin": lps[:3, 3],
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|Closed surface|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    if layers > 1:
        header["kinds"] = ["list", *header["kinds"]]
        header["space directions"] = np.vstack([[np.nan] * 3, directions])
    for k, segment in enumerate(segments):
        header |= {f"Segment{k}_{key}": value for key, value in segment.items()}
    return header


def segment(name: str, value: int, layer: int = 0) -> dict[str, str]:
    return {
        "Name": name,
        "ID": f"Segment_{value}",
        "LabelValue": str(value),
        "Layer": str(layer),
        "Color": "0.5 0.7 0.4",
    }


def image_of(affine: np.ndarray | None, shape: tuple[int, ...] = SHAPE) -> Image:
    return Image(np.zeros((1, *shape), np.float32), affine)


def drawn(path: Path, image: Image, classes: tuple[str, ...]) -> np.ndarray:
    segments = known(path).read(path, image)
    return draw((one for one in segments if one.name), image.shape, classes)[0]


def on_grid(values: np.ndarray, own: np.ndarray, target: np.ndarray) -> np.ndarray:
    """SimpleITK's resampling by the nearest voxel."""

    def placed(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
        lps = LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        return image

    reference = placed(np.zeros(SHAPE, np.uint8), target)
    moved = sitk.Resample(
        placed(values, own), reference, sitk.Transform(), sitk.sitkNearestNeighbor
    )
    return sitk.GetArrayFromImage(moved).transpose(2, 1, 0)


@given(affines(), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_values_and_extent_are_those_of_the_header(
    tmp_path_factory: Any, affine: np.ndarray, seed: int
):
    """Writer: pynrrd with Slicer's keys: values are not the numbers of the segments, and the file
    covers a part of the image. Oracle: SimpleITK's own reader and resampling.
    """
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 4, 3)
    values = rng.choice([0, 5, 9, 3], (4, 5, 3)).astype(np.uint8)
    own = affine.copy()
    own[:3, 3] += affine[:3, :3] @ first
    header = slicer_header(own, [segment("left", 9), segment("right", 5), segment("both", 3)])
    path = tmp_path_factory.mktemp("slicer") / "a.seg.nrrd"
    nrrd.write(str(path), values, header)
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(2, 1, 0)
    np.testing.assert_array_equal(read, values)
    expected = np.select([on_grid(read, own, affine) == v for v in (9, 5, 3)], [1, 2, 3])
    ours = drawn(path, image_of(affine), ("", "left", "right", "both"))
    np.testing.assert_array_equal(ours, expected)
    assert known(path).class_names(path) == ("left", "right", "both")


@pytest.mark.parametrize("turned", [False, True])
def test_another_grid_is_resampled_by_the_nearest_voxel(turned: bool, tmp_path: Path):
    """Oracle: SimpleITK."""
    values = np.random.default_rng(0).integers(0, 3, (8, 9, 10)).astype(np.uint8)
    own = np.diag([1.1, 0.83, 0.77, 1.0])
    if turned:
        own[:3, :3] = OBLIQUE[:3, :3] @ np.diag([0.71, 0.63, 0.52])
    own[:3, 3] = 0.31, -0.22, 0.17
    target = np.diag([0.9, 0.7, 1.3, 1.0])
    path = tmp_path / "a.seg.nrrd"
    nrrd.write(str(path), values, slicer_header(own, [segment("a", 1), segment("b", 2)]))
    expected = on_grid(values, own, target)
    assert expected.any()
    np.testing.assert_array_equal(drawn(path, image_of(target), ("", "a", "b")), expected)


def test_layers_overlap_and_the_later_segment_covers_the_earlier(tmp_path: Path):
    """Writer: pynrrd, layers as the first of four axes. Oracle: NumPy."""
    values = np.zeros((2, *SHAPE), np.uint8)
    values[0, 1:5], values[0, 6:], values[1, 3:8] = 1, 2, 1
    segments = [segment("a", 1), segment("top", 1, 1), segment("b", 2)]
    path = tmp_path / "a.seg.nrrd"
    nrrd.write(str(path), values, slicer_header(OBLIQUE, segments, 2))
    expected = np.zeros(SHAPE, int)
    expected[1:5], expected[3:8], expected[6:] = 1, 2, 3
    label, covered = draw(known(path).read(path, image_of(OBLIQUE)), SHAPE, ("", "a", "top", "b"))
    np.testing.assert_array_equal(label, expected)
    assert covered == 4 * SHAPE[1] * SHAPE[2]


def test_files_of_old_versions_have_a_layer_a_segment(tmp_path: Path):
    values = np.zeros((2, *SHAPE), np.uint8)
    values[0, 1:3], values[1, 5:] = 1, 1
    old = [{"Name": name, "ID": name} for name in ("a", "b")]
    nrrd.write(str(tmp_path / "a.seg.nrrd"), values, slicer_header(OBLIQUE, old, 2))
    label = drawn(tmp_path / "a.seg.nrrd", image_of(OBLIQUE), ("", "a", "b"))
    np.testing.assert_array_equal(label, values[0] + 2 * values[1])


def test_values_without_a_segment_have_no_name_and_names_keep_their_letters(tmp_path: Path):
    values = np.zeros(SHAPE, np.uint8)
    values[0], values[1] = 7, 4
    path = tmp_path / "a.seg.nrrd"
    nrrd.write(str(path), values, slicer_header(OBLIQUE, [segment("Schaedel", 7)]))
    # pynrrd writes no other letters; Slicer does, in UTF-8.
    path.write_bytes(path.read_bytes().replace(b"Schaedel", "Schädel".encode()))
    named = {one.name: one.inside.sum() for one in known(path).read(path, image_of(OBLIQUE))}
    assert named == {"": 77, "Schädel": 77}


@given(affines(), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_what_we_write_has_its_place_for_simpleitk_and_for_us(
    tmp_path_factory: Any, affine: np.ndarray, seed: int
):
    label = np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8)
    path = tmp_path_factory.mktemp("own") / "a.seg.nrrd"
    write(path, label, image_of(affine), ("background", "a", "b", "c"))
    theirs = read_image(path)
    np.testing.assert_array_equal(theirs.array[0], label)
    np.testing.assert_allclose(theirs.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(drawn(path, image_of(affine), ("", "a", "b", "c")), label)


@pytest.mark.parametrize(
    ("shape", "suffix", "axes"),
    [
        *(((9, 11), suffix, (1, 0)) for suffix in (".png", ".nii.gz", ".mha", ".npy")),
        ((9, 11, 4), ".tif", (1, 0, 2)),
        ((9, 11, 4), ".npy", (0, 1, 2)),
    ],
)
def test_pictures_and_stacks_begin_with_their_rows(
    shape: tuple[int, ...], suffix: str, axes: tuple[int, ...], tmp_path: Path
):
    """Slicer's first axis are the columns of a picture."""
    label = np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)
    image = Image(np.zeros((1, *shape), np.float32), suffix=suffix)
    write(tmp_path / "a.seg.nrrd", label, image, ("background", "a", "b"))
    stored, _ = nrrd.read(str(tmp_path / "a.seg.nrrd"))
    np.testing.assert_array_equal(np.squeeze(stored), label.transpose(axes))
    np.testing.assert_array_equal(drawn(tmp_path / "a.seg.nrrd", image, ("", "a", "b")), label)


def test_an_image_without_a_place_is_covered_from_the_voxel_that_the_file_names(tmp_path: Path):
    values = np.ones((3, 4, 2), np.uint8)
    header = slicer_header(np.eye(4), [segment("a", 1)])
    header["Segmentation_ReferenceImageExtentOffset"] = "2 1 0"
    path = tmp_path / "a.seg.nrrd"
    nrrd.write(str(path), values, header)
    image = Image(np.zeros((1, 9, 11, 4), np.float32), suffix=".npy")
    label = drawn(path, image, ("", "a"))
    assert label.sum() == label[2:5, 1:5, :2].sum() == 24
    del header["Segmentation_ReferenceImageExtentOffset"]
    nrrd.write(str(path), values, header)
    with pytest.raises(UserError, match="nothing says where it lies"):
        drawn(path, image, ("", "a"))


def test_a_segmentation_that_lies_elsewhere_is_refused(tmp_path: Path):
    path = tmp_path / "a.seg.nrrd"
    far = OBLIQUE.copy()
    far[:3, 3] += 500
    nrrd.write(str(path), np.ones(SHAPE, np.uint8), slicer_header(far, [segment("a", 1)]))
    with pytest.raises(UserError, match="they lie apart in space"):
        drawn(path, image_of(OBLIQUE), ("", "a"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"Segment0_LabelValue:=1", b"Segment0_LabelValue:=x", "cannot be read"),
        (b"Segment0_LabelValue:=1", b"Segment0_LabelValue:=99999999", "expected values from 1"),
        (b"Segment0_Layer:=0", b"Segment0_Layer:=7", "layers below 1"),
        (b"sizes: 9 11 7", b"sizes: 9 11 700000", "cannot be read"),
        (b"sizes: 9 11 7", b"sizes: 999999 999999 7", "its header promises"),
        (b"sizes: 9 11 7", b"sizes: -9 -11 7", "holds nothing|cannot be read"),
        (b"encoding: gzip", b"data file: /etc/passwd\nencoding: gzip", "holds its own data"),
        (b"encoding: gzip", b"encoding: hex", "it is hex"),
        (b"space: left", b"space: scanner-left", "lacks it"),
        (b"type: unsigned char", b"type: block", "cannot be read"),
    ],
)
def test_damaged_headers_are_refused(old: bytes, new: bytes, message: str, tmp_path: Path):
    path = tmp_path / "a.seg.nrrd"
    header = slicer_header(np.eye(4), [segment("a", 1)])
    nrrd.write(str(path), np.ones(SHAPE, np.uint8), header)
    content = path.read_bytes().replace(b"uint8", b"unsigned char")
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        drawn(path, image_of(np.eye(4)), ("", "a"))
    assert str(path) in str(caught.value)


def test_data_that_unpacks_to_more_than_its_header_says_is_not_unpacked(tmp_path: Path):
    path = tmp_path / "a.seg.nrrd"
    nrrd.write(str(path), np.ones(SHAPE, np.uint8), slicer_header(np.eye(4), [segment("a", 1)]))
    head = path.read_bytes().split(b"\n\n")[0]
    path.write_bytes(head + b"\n\n" + gzip.compress(b"\1" * 2**26))
    with pytest.raises(UserError, match="longer than its header says"):
        drawn(path, image_of(np.eye(4)), ("", "a"))


def test_a_volume_of_nibabel_has_the_place_of_its_segmentation(tmp_path: Path):
    """The image a NIfTI, its segmentation a file of Slicer."""
    values = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.uint8)
    nib.save(nib.Nifti1Image(values.astype(np.float32), OBLIQUE), tmp_path / "a.nii.gz")
    nrrd.write(str(tmp_path / "a.seg.nrrd"), values, slicer_header(OBLIQUE, [segment("a", 1)]))
    image = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(drawn(tmp_path / "a.seg.nrrd", image, ("", "a")), values)
