"""Which files are inputs: channels in files of their own, series, radiographs."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image as Pillow

from cdal.cli import main
from cdal.imaging.image import Image
from cdal.inference.inputs import find_inputs
from cdal.inference.load import load
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.files import numbers, save_nifti, write_series


def save_network(path: Path, channels: int, bias: tuple[float, float] | None = None) -> Path:
    """A model of pictures with random weights; with a bias, one that gives every pixel the same
    class.
    """
    recipe = Recipe(
        "x", DataSettings(spatial_dims=2, size=(32, 32)), ImageUNetSettings(channels=(4, 8, 8))
    )
    torch.manual_seed(0)
    network = build_segmenter(recipe, channels, 2).network
    if bias is not None:
        torch.nn.init.zeros_(network.head.weight)
        network.head.bias.data = torch.tensor(bias)
    save_model(path, network.state_dict(), ModelHeader(recipe, ("background", "ball"), channels))
    return path


def test_channels_in_files_of_their_own_are_one_image(tmp_path: Path):
    model = save_network(tmp_path / "two.safetensors", 2)
    planes = np.random.default_rng(0).integers(0, 255, size=(2, 40, 50)).astype(np.uint8)
    for i, plane in enumerate(planes):
        (tmp_path / "in").mkdir(exist_ok=True)
        Pillow.fromarray(plane).save(tmp_path / "in" / f"a_{i:04d}.png")
    Pillow.fromarray(planes[0]).save(tmp_path / "in" / "b_0001.png")
    assert main(["predict", str(model), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 3
    expected = load(model).predict(planes, case="a").mask
    np.testing.assert_array_equal(np.asarray(Pillow.open(tmp_path / "out/a_mask.png")), expected)
    failed = json.loads((tmp_path / "out/predictions.json").read_text())["failed"]
    assert list(failed) == [str(tmp_path / "in/b_0001.png")]  # a channel is missing


def test_a_fourth_axis_has_the_models_channels(tmp_path: Path):
    model = save_network(tmp_path / "two.safetensors", 2)
    volume = numbers((24, 20, 3, 2))
    path = save_nifti(tmp_path / "a.nii.gz", volume)
    assert main(["predict", str(model), str(path), "--out", str(tmp_path / "out")]) == 0
    image = Image(np.moveaxis(volume, -1, 0).astype(np.float32), np.eye(4))
    expected = load(model).predict(image, case="a").mask
    mask = nib.load(tmp_path / "out/a_mask.nii.gz")
    assert mask.shape == (24, 20, 3)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    np.testing.assert_array_equal(load(model).predict(path, case="a").mask, expected)
    single = save_network(tmp_path / "one.safetensors", 1)
    assert main(["predict", str(single), str(path), "--out", str(tmp_path / "other")]) == 2


def test_a_series_has_to_be_chosen_on_the_command_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = save_network(tmp_path / "full.safetensors", 1, (0.0, 5.0))
    scan = np.random.default_rng(0).integers(0, 900, size=(3, 20, 20)).astype(np.uint16)
    write_series(tmp_path / "s", scan, description="T1", number=3)
    write_series(tmp_path / "s", scan, description="T2", number=4, first=10)
    command = ["predict", str(model), str(tmp_path / "s"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "--series" in capsys.readouterr().err
    assert main([*command, "--series", "T2"]) == 0
    references = {
        str(uid)
        for _, _, uid in hd.seg.segread(tmp_path / "out/s_mask.dcm").get_source_image_uids()
    }
    chosen = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "s").glob("IM001*")}
    assert references == chosen


def test_radiographs_and_pictures_in_one_folder_are_one_image_each(tmp_path: Path):
    for i in range(3):
        folder = write_series(tmp_path / "s", numbers((1, 6, 7), np.uint16), first=i)
        file = pydicom.dcmread(folder / f"IM{i:04d}")
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
            delattr(file, tag)
        file.save_as(folder / f"IM{i:04d}", enforce_file_format=True)
    Pillow.fromarray(numbers((8, 8))).save(tmp_path / "s/preview.png")
    found, failed = find_inputs([tmp_path / "s"])
    assert not failed
    assert sorted(one.name for one in found) == ["IM0000", "IM0001", "IM0002", "preview"]
