"""Which files are inputs: channels in files of their own, series, radiographs."""

from __future__ import annotations

import json
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image as Pillow

from cdal.cli import main
from cdal.imaging.image import Image
from cdal.inference.inputs import list_inputs
from cdal.inference.load import load
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader, read_header
from cdal.training.train import train
from helpers.dicom import axial_series
from helpers.files import disc, numbers, picture, save_nifti, write_series
from helpers.recipes import small_recipe


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
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "s").glob("IM001*"))]
    assert references == {str(a_slice.SOPInstanceUID) for a_slice in slices}
    (row,) = json.loads((tmp_path / "out/predictions.json").read_text())["predictions"]
    assert row["series"] == slices[0].SeriesInstanceUID


def test_another_series_of_a_folder_does_not_take_the_results_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = save_network(tmp_path / "full.safetensors", 1, (0.0, 5.0))
    scan = np.random.default_rng(0).integers(0, 900, size=(3, 20, 20)).astype(np.uint16)
    write_series(tmp_path / "s", scan, description="T1", number=3)
    write_series(tmp_path / "s", scan // 2, description="T2", number=4, first=10)
    command = ["predict", str(model), str(tmp_path / "s"), "--series"]
    out = tmp_path / "out"
    assert main([*command, "T1", "--out", str(out)]) == 0
    before = (out / "s_mask.dcm").read_bytes()
    assert main([*command, "T2", "--out", str(out)]) == 2
    first = pydicom.dcmread(tmp_path / "s/IM0000")
    assert (
        f"another image, series {first.SeriesInstanceUID} of this folder, whose"
        in capsys.readouterr().err
    )
    assert (out / "s_mask.dcm").read_bytes() == before
    assert main([*command, "T2", "--out", str(tmp_path / "other")]) == 0
    first.PixelData = bytes(len(first.PixelData))
    first.save_as(tmp_path / "s/IM0000")
    assert main([*command, "T1", "--out", str(out)]) == 0  # the same series, which has changed
    assert (out / "s_mask.dcm").read_bytes() != before


def test_radiographs_and_pictures_in_one_folder_are_one_image_each(tmp_path: Path):
    for i in range(3):
        folder = write_series(tmp_path / "s", numbers((1, 6, 7), np.uint16), first=i)
        file = pydicom.dcmread(folder / f"IM{i:04d}")
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
            delattr(file, tag)
        file.save_as(folder / f"IM{i:04d}", enforce_file_format=True)
    Pillow.fromarray(numbers((8, 8))).save(tmp_path / "s/preview.png")
    found, failed = list_inputs([tmp_path / "s"])
    assert not failed
    assert sorted(one.name for one in found) == ["IM0000", "IM0001", "IM0002", "preview"]


def frames(folder: Path, kind: str) -> list[Path]:
    """Three files numbered as channels would be."""
    paths = []
    for i in range(3):
        gray = numbers((12, 14)) + i
        path = folder / f"frame_{i:04d}"
        if kind == "gray":
            paths.append(picture(path.with_suffix(".png"), gray))
        elif kind == "colours":
            paths.append(
                picture(path.with_suffix(".png"), np.stack([gray, gray // 2, 255 - gray], -1))
            )
        elif kind == "gray TIFF":
            folder.mkdir(exist_ok=True)
            tifffile.imwrite(path.with_suffix(".tif"), gray)
            paths.append(path.with_suffix(".tif"))
        else:
            volume = np.repeat(gray[..., None], 5, -1)
            paths.append(save_nifti(folder / f"{path.name}.nii.gz", volume))
    return paths


@pytest.mark.parametrize(
    ("kind", "channel_files", "images"),
    [
        ("gray", None, 3),
        ("gray TIFF", None, 3),
        ("colours", None, 3),
        ("volumes", None, 1),
        ("gray", False, 3),
        ("volumes", False, 3),
        ("gray", True, 1),
        ("volumes", True, 1),
        ("colours", True, 3),
    ],
)
def test_frames_are_channels_only_where_no_frame_fits_by_itself(
    kind: str, channel_files: bool | None, images: int, tmp_path: Path
):
    """As many files as the model has channels; whether it was trained on such files may be known,
    or not, as with models of earlier versions.
    """
    paths = frames(tmp_path / "in", kind)
    found, failed = list_inputs([tmp_path / "in"], channels=3, channel_files=channel_files)
    assert not failed
    assert len(found) == images
    if images == 1:
        assert (found[0].name, found[0].files) == ("frame", tuple(paths))
    else:
        assert [one.name for one in found] == [f"frame_{i:04d}" for i in range(3)]


def test_a_model_says_whether_its_channels_were_files_of_their_own(tmp_path: Path):
    for i in range(4):
        for channel in range(2):
            name = f"c{i}_{channel:04d}.png"
            picture(tmp_path / "data/images" / name, disc(32, 9 + i, 90) + numbers((32, 32)) // 4)
        picture(tmp_path / "data/labels" / f"c{i}.png", disc(32, 9 + i))
    recipe = small_recipe(steps=1)
    run = train(recipe, tmp_path / "data", tmp_path / "run", "cpu")
    assert read_header(run).channel_files is True
    predict = ["predict", str(run), str(tmp_path / "data/images"), "--votes", "1"]
    assert main([*predict, "--out", str(tmp_path / "out")]) == 0
    masks = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert masks == [f"c{i}_mask.png" for i in range(4)]


def test_radiographs_called_by_their_uid_have_results_of_their_own(tmp_path: Path):
    model = save_network(tmp_path / "full.safetensors", 1, (0.0, 5.0))
    names = [f"1.2.276.0.7230010.3.1.4.99.100.{i}" for i in range(3)]
    for i, name in enumerate(names):
        folder = write_series(tmp_path / "s", numbers((1, 32, 33), np.uint16), first=i)
        file = pydicom.dcmread(folder / f"IM{i:04d}")
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
            delattr(file, tag)
        file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        (tmp_path / "in").mkdir(exist_ok=True)
        file.save_as(tmp_path / "in" / name, enforce_file_format=True)
    out = tmp_path / "out"
    command = ["predict", str(model), "--out", str(out), "--votes", "1"]
    assert main([*command, str(tmp_path / "in")]) == 0
    for name in names:
        assert main([*command, str(tmp_path / "in" / name)]) == 0
    assert sorted(path.name for path in out.glob("*.dcm")) == [f"{name}_mask.dcm" for name in names]


def test_suffixes_of_dicom_are_cut_off_and_localizers_passed_over(tmp_path: Path):
    axial_series(tmp_path / "scan", numbers((3, 6, 7), np.uint16))
    for i, suffix in enumerate((".IMA", ".dicom", ".DCM")):
        path = tmp_path / "scan" / f"{i:03d}.dcm"
        path.rename(path.with_suffix(suffix))
        (one,), _ = list_inputs([path.with_suffix(suffix)])
        assert (one.name, one.suffix) == (f"{i:03d}", ".dcm")

    def localizer(_: int, file: pydicom.Dataset) -> None:
        file.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    axial_series(tmp_path / "scan" / "other", numbers((2, 6, 7), np.uint16), change=localizer)
    (one,), failed = list_inputs([tmp_path / "scan"])
    assert (len(one.files), failed) == (3, {})


def test_a_segmentation_is_no_image(tmp_path: Path):
    folder = axial_series(
        tmp_path / "s",
        numbers((1, 6, 7), np.uint16),
        change=lambda i, f: setattr(f, "Modality", "SEG"),
    )
    (one,), _ = list_inputs([folder / "000.dcm"])
    with pytest.raises(UserError, match="of the kind SEG"), one.open(tmp_path):
        pass
