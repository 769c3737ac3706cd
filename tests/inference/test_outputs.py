"""Every format in one call: a viewer that knows nothing of us finds each mask in its place."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
import torch
from PIL import Image as Pillow

import cdal.segmenters.model_file
from cdal.cli import main
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.files import ball, save_nifti, write_series
from helpers.segmenters import Brightness

OBLIQUE = np.array([[0.1, -1.1, 0.2, 30.0], [1.0, 0.1, 0.1, -20.0], [0, 0.15, -1.2, 12.0], [0, 0, 0, 1]])
SHAPE = (20, 22, 18)


@pytest.fixture
def bright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A 2D model of one channel that finds what is brighter than the mean."""
    recipe = Recipe("bright", DataSettings(spatial_dims=2, size=(32, 32)), ImageUNetSettings(channels=(4, 8, 8)))
    header = ModelHeader(recipe, ("background", "ball"), 1)
    path = tmp_path / "bright.safetensors"
    save_model(path, build_segmenter(recipe, 1, 2).network.state_dict(), header)
    monkeypatch.setattr(cdal.segmenters.model_file, "load_model", lambda *_: (Brightness().eval(), header))
    return path


def points(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Places in millimetres of the voxels that are not 0."""
    index = np.argwhere(array)
    return index @ affine[:3, :3].T + affine[:3, 3]


def same_places(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two sets of places are one, to a hundredth of a millimetre."""
    return (
        len(first) == len(second)
        and np.abs(first[np.lexsort(first.T.round(1))] - second[np.lexsort(second.T.round(1))]).max() < 0.02
    )


def itk_affine(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return affine


def test_every_format_in_one_call(bright: Path, tmp_path: Path):
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
    given = [str(path) for path in sorted(inputs.iterdir())]
    assert main(["predict", str(bright), *given, "--out", str(tmp_path / "out"), "--save", "mask", "overlay"]) == 0

    mask = nib.load(tmp_path / "out/oblique_mask.nii.gz")
    assert same_places(points(np.asarray(mask.dataobj), mask.affine), points(truth, OBLIQUE))

    seg = hd.seg.segread(tmp_path / "out/series_mask.dcm").get_volume(combine_segments=True)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(inputs / "series")))
    scan = reader.Execute()
    seen = sitk.GetArrayFromImage(scan).transpose(2, 1, 0) > -800  # 2 x - 1000
    assert same_places(points(seg.array, seg.affine), points(seen, itk_affine(scan)))

    nrrd = sitk.ReadImage(str(tmp_path / "out/turned_mask.nrrd"))
    assert same_places(points(sitk.GetArrayFromImage(nrrd).transpose(2, 1, 0), itk_affine(nrrd)), points(truth, itk_affine(volume)))

    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/deep_mask.tif"), flat)
    for name in ("clear", "photo"):
        np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / f"out/{name}_mask.png")), flat)
    rows = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    assert {row["unit"] for row in rows} == {"mm3", "pixels"}
    for overlay in (tmp_path / "out").glob("*_overlay.png"):
        assert (np.asarray(Pillow.open(overlay)) == (230, 159, 0)).all(axis=-1).any()  # the outline's colour


def test_objects_of_a_picture_and_none_of_a_volume(bright: Path, tmp_path: Path):
    array = np.zeros((40, 50), np.uint8)
    array[5:10, 5:12] = array[20:30, 30:40] = 200
    array[24:26, 33:36] = 0
    Pillow.fromarray(array).save(tmp_path / "cells.png")
    save_nifti(tmp_path / "v.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32))
    command = ["predict", str(bright), str(tmp_path / "cells.png"), str(tmp_path / "v.nii.gz"), "--out", str(tmp_path / "out")]
    assert main([*command, "--save", "mask", "geojson"]) == 3
    failed = json.loads((tmp_path / "out/predictions.json").read_text())["failed"]
    assert "are for pictures" in failed[str(tmp_path / "v.nii.gz")]
    features = json.loads((tmp_path / "out/cells_objects.geojson").read_text())["features"]
    assert sorted(feature["properties"]["area"] for feature in features) == [35, 94]
    assert sorted(len(feature["geometry"]["coordinates"]) for feature in features) == [1, 2]  # one has a hole
    assert {feature["properties"]["classification"]["name"] for feature in features} == {"ball"}
    assert main([*command[:3], "--out", str(tmp_path / "more"), "--save", "instances", "geojson"]) == 0
    numbered = tifffile.imread(tmp_path / "more/cells_instances.tif")
    np.testing.assert_array_equal(numbered > 0, array > 100)
    features = json.loads((tmp_path / "more/cells_objects.geojson").read_text())["features"]
    assert sorted(feature["properties"]["area"] for feature in features) == sorted(np.bincount(numbered.ravel())[1:])


def test_channels_in_files_of_their_own_are_one_image(tmp_path: Path):
    recipe = Recipe("two", DataSettings(spatial_dims=2, size=(32, 32)), ImageUNetSettings(channels=(4, 8, 8)))
    torch.manual_seed(0)
    network = build_segmenter(recipe, 2, 2).network
    save_model(tmp_path / "two.safetensors", network.state_dict(), ModelHeader(recipe, ("background", "ball"), 2))
    planes = np.random.default_rng(0).integers(0, 255, size=(2, 40, 50)).astype(np.uint8)
    for i, plane in enumerate(planes):
        (tmp_path / "in").mkdir(exist_ok=True)
        Pillow.fromarray(plane).save(tmp_path / "in" / f"a_{i:04d}.png")
    Pillow.fromarray(planes[0]).save(tmp_path / "in" / "b_0001.png")
    assert main(["predict", str(tmp_path / "two.safetensors"), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 3
    expected = cdal.inference.load.load(tmp_path / "two.safetensors").predict(planes, case="a").mask
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "out/a_mask.png")), expected)
    failed = json.loads((tmp_path / "out/predictions.json").read_text())["failed"]
    assert list(failed) == [str(tmp_path / "in/b_0001.png")]  # a channel is missing


def test_two_inputs_do_not_share_a_result(bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    array = np.random.default_rng(0).integers(0, 255, size=(8, 8)).astype(np.uint8)
    Pillow.fromarray(array).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", array)
    command = ["predict", str(bright), str(tmp_path / "a.png"), str(tmp_path / "a.tif"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert main([*command[:-1], str(tmp_path / "more"), "--save", "overlay"]) == 3
    assert "the result of another input" in capsys.readouterr().err


def test_a_slide_needs_the_extra_and_is_read_with_it(bright: Path, tmp_path: Path):
    openslide = pytest.importorskip("openslide", reason="the extra `slides` is not installed")
    array = np.full((300, 280, 3), 40, np.uint8)
    array[100:150, 60:160] = 220
    tifffile.imwrite(tmp_path / "a.svs", array, tile=(128, 128), photometric="rgb", compression="jpeg")
    assert openslide.OpenSlide(tmp_path / "a.svs").dimensions == (280, 300)
    assert main(["predict", str(bright), str(tmp_path / "a.svs"), "--out", str(tmp_path / "out")]) == 0
    mask = tifffile.imread(tmp_path / "out/a_mask.tif")
    assert mask.shape == (300, 280)
    assert 2 * (mask[100:150, 60:160] > 0).sum() / (mask.sum() + 5000) > 0.98


def test_a_series_has_to_be_chosen_on_the_command_line_too(bright: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    scan = np.random.default_rng(0).integers(0, 900, size=(3, 20, 20)).astype(np.uint16)
    write_series(tmp_path / "s", scan, description="T1", number=3)
    write_series(tmp_path / "s", scan, description="T2", number=4, first=10)
    command = ["predict", str(bright), str(tmp_path / "s"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--series" in capsys.readouterr().err
    assert main([*command, "--series", "T2"]) == 0
    references = {str(uid) for _, _, uid in hd.seg.segread(tmp_path / "out/s_mask.dcm").get_source_image_uids()}
    chosen = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "s").glob("IM001*")}
    assert references <= chosen
