"""Every format in one call: a viewer that knows nothing of us finds each mask in its place."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image as Pillow
from scipy.spatial import KDTree

from cdal.imaging.annotations import dicom_seg, draw, rtstruct
from cdal.imaging.formats import read_image
from cdal.inference.predict import predict
from cdal.inference.predictor import Predictor
from cdal.recipes.recipe import DataSettings
from helpers.files import ball, save_nifti, write_series
from helpers.segmenters import bright_predictor

OBLIQUE = np.array(
    [[0.1, -1.1, 0.2, 30.0], [1.0, 0.1, 0.1, -20.0], [0, 0.15, -1.2, 12.0], [0, 0, 0, 1]]
)
SHAPE = (20, 22, 18)


@pytest.fixture(scope="module")
def bright() -> Predictor:
    """A predictor of pictures, and of slices, that finds what is brighter than the mean."""
    return bright_predictor(DataSettings(spatial_dims=2, size=(32, 32)))


def points(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Places in millimetres of the voxels that are not 0."""
    index = np.argwhere(array)
    return index @ affine[:3, :3].T + affine[:3, 3]


def same_places(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two sets of places are one, to a hundredth of a millimetre."""
    distances, nearest = KDTree(second).query(first)
    return len(first) == len(second) == len(set(nearest)) and distances.max() < 0.02


def itk_affine(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine


def test_every_format_in_one_call(bright: Predictor, tmp_path: Path):
    truth = ball(SHAPE, OBLIQUE)
    values = (200 * truth + np.random.default_rng(0).integers(0, 20, size=SHAPE)).astype(np.uint16)
    picture, flat = values[:, :, 9].astype(np.uint8), truth[:, :, 9]
    inputs = tmp_path / "in"
    save_nifti(inputs / "oblique.nii.gz", values.astype(np.float32), OBLIQUE)
    write_series(inputs / "series", values.transpose(2, 0, 1))
    volume = sitk.GetImageFromArray(values.transpose(2, 1, 0))
    volume.SetDirection((0, 0, 1, 1, 0, 0, 0, -1, 0))
    volume.SetSpacing((0.9, 1.1, 2.0))
    volume.SetOrigin((4, 5, 6))
    sitk.WriteImage(volume, str(inputs / "turned.nrrd"))
    tifffile.imwrite(inputs / "deep.tif", picture.astype(np.uint16) * 200)
    Pillow.fromarray(picture).convert("RGBA").save(inputs / "clear.png")
    Pillow.fromarray(picture).save(inputs / "photo.jpg", quality=95)
    written = predict(bright, sorted(inputs.iterdir()), tmp_path / "out", save=("mask", "overlay"))
    assert (len(written.done), written.failed) == (6, {})

    mask = nib.load(tmp_path / "out/oblique_mask.nii.gz")
    assert same_places(points(np.asarray(mask.dataobj), mask.affine), points(truth, OBLIQUE))

    seg = hd.seg.segread(tmp_path / "out/series_mask.dcm").get_volume(combine_segments=True)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(inputs / "series")))
    scan = reader.Execute()
    seen = sitk.GetArrayFromImage(scan).transpose(2, 1, 0) > -800  # 2 x - 1000
    assert same_places(points(seg.array, seg.affine), points(seen, itk_affine(scan)))

    nrrd = sitk.ReadImage(str(tmp_path / "out/turned_mask.nrrd"))
    assert same_places(
        points(sitk.GetArrayFromImage(nrrd).transpose(2, 1, 0), itk_affine(nrrd)),
        points(truth, itk_affine(volume)),
    )

    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/deep_mask.tif"), flat)
    for name in ("clear", "photo"):
        np.testing.assert_array_equal(
            np.asarray(Pillow.open(tmp_path / f"out/{name}_mask.png")), flat
        )
    rows = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    assert {row["unit"] for row in rows} == {"mm3", "pixels"}
    for overlay in (tmp_path / "out").glob("*_overlay.png"):
        assert (
            (np.asarray(Pillow.open(overlay)) == (230, 159, 0)).all(axis=-1).any()
        )  # the outline's colour


def test_objects_of_a_picture_and_none_of_a_volume(bright: Predictor, tmp_path: Path):
    array = np.zeros((40, 50), np.uint8)
    array[5:10, 5:12] = array[20:30, 30:40] = 200
    array[24:26, 33:36] = 0
    Pillow.fromarray(array).save(tmp_path / "cells.png")
    save_nifti(
        tmp_path / "v.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    )
    cells, scan = tmp_path / "cells.png", tmp_path / "v.nii.gz"
    written = predict(bright, [cells, scan], tmp_path / "out", save=("mask", "geojson"))
    assert list(written.failed) == [str(scan)]
    assert json.loads((tmp_path / "out/predictions.json").read_text())["failed"] == written.failed
    assert "are for pictures" in written.failed[str(scan)]
    features = json.loads((tmp_path / "out/cells_objects.geojson").read_text())["features"]
    assert sorted(feature["properties"]["area"] for feature in features) == [35, 94]
    assert sorted(len(feature["geometry"]["coordinates"]) for feature in features) == [
        1,
        2,
    ]  # one has a hole
    assert {feature["properties"]["classification"]["name"] for feature in features} == {"ball"}
    assert not predict(bright, [cells], tmp_path / "more", save=("instances", "geojson")).failed
    numbered = tifffile.imread(tmp_path / "more/cells_instances.tif")
    np.testing.assert_array_equal(numbered > 0, array > 100)
    features = json.loads((tmp_path / "more/cells_objects.geojson").read_text())["features"]
    assert sorted(feature["properties"]["area"] for feature in features) == sorted(
        np.bincount(numbered.ravel())[1:]
    )


def test_two_inputs_do_not_share_a_result(bright: Predictor, tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 255, size=(8, 8)).astype(np.uint8)
    Pillow.fromarray(array).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", array)
    inputs = [tmp_path / "a.png", tmp_path / "a.tif"]
    assert len(predict(bright, inputs, tmp_path / "out").done) == 2
    written = predict(bright, inputs, tmp_path / "more", save=("overlay",))
    assert len(written.done) == 1
    assert "the result of another input" in written.failed[str(tmp_path / "a.tif")]


def test_a_slide_needs_the_extra_and_is_read_with_it(bright: Predictor, tmp_path: Path):
    openslide = pytest.importorskip("openslide", reason="the extra `slides` is not installed")
    array = np.full((300, 280, 3), 40, np.uint8)
    array[100:150, 60:160] = 220
    tifffile.imwrite(
        tmp_path / "a.svs", array, tile=(128, 128), photometric="rgb", compression="jpeg"
    )
    assert openslide.OpenSlide(tmp_path / "a.svs").dimensions == (280, 300)
    assert not predict(bright, [tmp_path / "a.svs"], tmp_path / "out").failed
    mask = tifffile.imread(tmp_path / "out/a_mask.tif")
    assert mask.shape == (300, 280)
    assert 2 * (mask[100:150, 60:160] > 0).sum() / (mask.sum() + 5000) > 0.98


def test_structures_of_a_series_are_its_mask_as_contours(bright: Predictor, tmp_path: Path):
    """And refused for what is no series, before it is segmented."""
    truth = ball(SHAPE, OBLIQUE)
    write_series(tmp_path / "series", 200 * truth.transpose(2, 0, 1).astype(np.uint16))
    scan = save_nifti(tmp_path / "v.nii.gz", truth.astype(np.float32), OBLIQUE)
    written = predict(
        bright, [tmp_path / "series", scan], tmp_path / "out", save=("mask", "rtstruct")
    )
    assert "RTSTRUCT refers to the slices of a DICOM series" in written.failed[str(scan)]
    assert written.done[0]["rtstruct"] == "series_rtstruct.dcm"
    assert sorted(path.name for path in (tmp_path / "out").glob("*.dcm")) == [
        "series_mask.dcm",
        "series_rtstruct.dcm",
    ]
    image = read_image(tmp_path / "series")
    (structure,) = rtstruct.read(tmp_path / "out/series_rtstruct.dcm", image)
    (segment,) = dicom_seg.read(tmp_path / "out/series_mask.dcm", image)
    assert structure.name == segment.name == "ball"
    drawn, masked = (draw([part], image.shape, ("", "ball"))[0] for part in (structure, segment))
    np.testing.assert_array_equal(drawn, masked)
    assert drawn.sum() == truth.sum()
    # Results in the folder of the images are not segmented in turn.
    again = predict(bright, [tmp_path / "series"], tmp_path / "series", save=("rtstruct",))
    again = predict(bright, [tmp_path / "series"], tmp_path / "series", save=("rtstruct",))
    assert [row["rtstruct"] for row in again.done] == ["series_rtstruct.dcm"]
