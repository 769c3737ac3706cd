"""Prediction from files to files, as a user meets it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
import torch
from PIL import Image as Pillow

from cdal.cli import main
from cdal.datasets.folder import open_folder
from cdal.imaging.formats import read_label, tiff_rows
from cdal.inference import case as segmenting
from cdal.inference import segmented
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.files import OBLIQUE, SHAPE, visible, volume
from helpers.polygons import rasterised
from helpers.recipes import small_recipe


def test_a_mask_lies_on_its_image(volume_model: Path, tmp_path: Path):
    source = volume(tmp_path / "scan.nii.gz")
    kinds = ("mask", "probability", "uncertainty", "votes")
    written = predict(volume_model, [source], tmp_path / "out", Sampling(votes=3), save=kinds)
    assert not written.failed
    assert visible(tmp_path / "out") == {f"scan_{k}.nii.gz" for k in kinds} | {"predictions.json"}
    expected = {
        "mask": SHAPE,
        "probability": (*SHAPE, 2),
        "uncertainty": SHAPE,
        "votes": (*SHAPE, 3),
    }
    for kind, shape in expected.items():
        file = nib.load(tmp_path / "out" / f"scan_{kind}.nii.gz")
        assert file.shape == shape
        np.testing.assert_allclose(file.affine, OBLIQUE, atol=1e-6)
    (row,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    mask = np.asarray(nib.load(tmp_path / "out" / "scan_mask.nii.gz").dataobj)
    assert row["volume"]["a"] == pytest.approx(
        (mask == 1).sum() * abs(np.linalg.det(OBLIQUE[:3, :3])), rel=0.05
    )


def test_pictures_get_pictures(trained: Path, phantoms: Path, tmp_path: Path):
    code = main(
        [
            "predict",
            str(trained),
            str(phantoms / "images"),
            "--out",
            str(tmp_path),
            "--save",
            "mask",
            "uncertainty",
        ]
    )
    assert code == 0
    mask = np.asarray(Pillow.open(tmp_path / "phantom_0003_mask.png"))
    assert mask.shape == (32, 32)
    assert mask.max() <= 1
    assert len(list(tmp_path.glob("*_mask.png"))) == 16
    # A second call into the same folder takes no result for an image.
    assert main(["predict", str(trained), str(tmp_path), "--out", str(tmp_path)]) == 2
    assert len(list(tmp_path.glob("*_mask.png"))) == 16


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii", ".nii.gz"])
def test_a_picture_has_the_same_mask_in_every_format(suffix: str, trained: Path, tmp_path: Path):
    """In NIfTI too, where the columns come first; nibabel finds the mask pixel by pixel on it."""
    array = np.random.default_rng(0).integers(0, 255, (40, 32)).astype(np.uint8)
    array[4:20, 18:30] = 250
    Pillow.fromarray(array).save(tmp_path / "a.png")
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"a{suffix}"))
    kinds = ("mask", "probability")
    made = [tmp_path / "a.png", tmp_path / f"a{suffix}"]
    for path in made:
        assert not predict(trained, [path], tmp_path / "out", Sampling(votes=2), save=kinds).failed
    mask, same = (read_label(tmp_path / f"out/a_mask{s}").array[0] for s in (".png", suffix))
    assert 0 < mask.mean() < 1
    np.testing.assert_array_equal(same, mask)
    written = sitk.ReadImage(str(tmp_path / f"out/a_mask{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), mask)
    if suffix.startswith(".nii"):
        image, on_it = (nib.load(path) for path in (made[1], tmp_path / f"out/a_mask{suffix}"))
        np.testing.assert_array_equal(np.asarray(on_it.dataobj), mask.T)
        assert on_it.shape == image.shape == (32, 40)
        np.testing.assert_allclose(on_it.affine, image.affine)


def test_files_that_no_prediction_made_are_kept(trained: Path, phantoms: Path, tmp_path: Path):
    """A mask drawn by hand is not replaced, an image called mask is segmented, and our own results
    may be made again.
    """
    names = [case.name for case in open_folder(phantoms).cases[:2]]
    (tmp_path / f"{names[0]}.png").write_bytes(
        (phantoms / "images" / f"{names[0]}.png").read_bytes()
    )
    (tmp_path / "skin_mask.png").write_bytes((phantoms / "images" / f"{names[1]}.png").read_bytes())
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / f"{names[0]}_mask.png").write_bytes(b"drawn by hand")
    for _ in range(2):
        written = predict(trained, [tmp_path], tmp_path / "hand", Sampling(votes=1))
        assert [Path(row["input"]).name for row in written.done] == ["skin_mask.png"]
        assert "was not made by a prediction" in written.failed[str(tmp_path / f"{names[0]}.png")]
    assert (tmp_path / "hand" / f"{names[0]}_mask.png").read_bytes() == b"drawn by hand"


def test_results_of_one_name_and_two_formats_stand_side_by_side(
    trained: Path, phantoms: Path, tmp_path: Path
):
    picture = open_folder(phantoms).cases[0].image
    same = tmp_path / f"{picture.stem}.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(picture)), str(same))
    for _ in range(2):
        assert not predict(trained, [picture, same], tmp_path / "out", Sampling(votes=1)).failed
    suffixes = {
        p.name.removeprefix(f"{picture.stem}_mask") for p in (tmp_path / "out").glob("*_mask*")
    }
    assert suffixes == {".png", ".nii.gz"}


def test_the_record_keeps_what_earlier_calls_wrote(trained: Path, phantoms: Path, tmp_path: Path):
    images = [case.image for case in open_folder(phantoms).cases[:3]]
    predict(trained, images[:2], tmp_path, Sampling(votes=1))
    (tmp_path / f"{images[0].stem}_mask.png").unlink()
    predict(trained, images[1:], tmp_path, Sampling(votes=3))
    rows = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert [(Path(row["input"]).stem, row["vote_count"]) for row in rows] == [
        (p.stem, 3) for p in images[1:]
    ]


def test_votes_are_those_that_were_drawn(trained: Path, phantoms: Path, tmp_path: Path):
    written = predict(
        trained, [open_folder(phantoms).cases[0].image], tmp_path, Sampling(votes=9, timesteps=0)
    )
    assert written.done[0]["vote_count"] == 1


def test_the_mask_has_the_shape_of_its_file(volume_model: Path, tmp_path: Path):
    predict(
        volume_model,
        [volume(tmp_path / "a.nii.gz", shape=(*SHAPE, 1))],
        tmp_path / "out",
        Sampling(votes=1),
    )
    assert nib.load(tmp_path / "out" / "a_mask.nii.gz").shape == (*SHAPE, 1)


def test_votes_on_disk_are_classes(volume_model: Path, tmp_path: Path):
    predict(
        volume_model,
        [volume(tmp_path / "a.nii.gz")],
        tmp_path / "out",
        Sampling(votes=3),
        save=("votes",),
    )
    stored = np.asarray(nib.load(tmp_path / "out/a_votes.nii.gz").dataobj)
    assert stored.shape == (*SHAPE, 3)
    assert stored.dtype == np.uint8
    assert set(np.unique(stored)) <= {0, 1, 2}


def test_results_kept_on_disk_are_those_kept_in_memory(
    volume_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    array = np.random.default_rng(0).normal(size=(40, 30, 35)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, OBLIQUE), tmp_path / "v.nii.gz")
    kinds = ("mask", "probability", "uncertainty", "votes")
    predict(volume_model, [tmp_path / "v.nii.gz"], tmp_path / "memory", Sampling(votes=2), kinds)
    monkeypatch.setattr(segmenting, "LARGE", 1)
    predict(volume_model, [tmp_path / "v.nii.gz"], tmp_path / "disk", Sampling(votes=2), kinds)
    for kind in kinds:
        names = [tmp_path / where / f"v_{kind}.nii.gz" for where in ("memory", "disk")]
        first, second = (np.asarray(nib.load(name).dataobj) for name in names)
        np.testing.assert_array_equal(first, second)


@pytest.fixture(scope="module")
def microscope(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for colour pictures with random weights and few channels."""
    small = small_recipe()
    settings_ = replace(
        small,
        data=DataSettings(
            spatial_dims=2, size=(64, 64), channels=3, intensities="range", overlap=0.1, whole=1.0
        ),
    )
    torch.manual_seed(0)
    segmenter = build_segmenter(settings_, 3, 2)
    torch.nn.init.normal_(segmenter.generator.head.weight, std=0.3)
    path = tmp_path_factory.mktemp("models") / "microscope.safetensors"
    save_model(
        path, segmenter.generator.state_dict(), ModelHeader(settings_, ("background", "nucleus"), 3)
    )
    return path


def test_a_large_picture_gets_its_results_band_by_band(
    microscope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tiff_rows, "LARGE", 90 * 95)
    monkeypatch.setattr(segmenting, "LARGE", 90 * 95)
    colours = np.random.default_rng(0).integers(0, 255, size=(110, 95, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "slide.tif", colours, tile=(32, 32), photometric="rgb")
    kinds = ("mask", "probability", "uncertainty", "geojson")
    written = predict(
        microscope, [tmp_path / "slide.tif"], tmp_path / "out", Sampling(votes=2), save=kinds
    )
    assert not written.failed
    assert visible(tmp_path / "out") == {
        "slide_mask.tif",
        "slide_probability.tif",
        "slide_uncertainty.tif",
        "slide_objects.geojson",
        "predictions.json",
    }
    mask = tifffile.imread(tmp_path / "out/slide_mask.tif")
    probability = tifffile.imread(tmp_path / "out/slide_probability.tif")
    np.testing.assert_array_equal(mask, probability > 0.5)
    assert written.done[0]["volume"]["nucleus"] == mask.sum() > 0
    np.testing.assert_array_equal(
        rasterised(tmp_path / "out/slide_objects.geojson", mask.shape, ("background", "nucleus")),
        mask,
    )
    monkeypatch.setattr(segmented, "MOST_WHOLE", 90 * 95)
    for options, message in (
        ({"save": ("votes",)}, "Save mask, probability"),
        ({"sampling": Sampling(components=1)}, "components 0"),
    ):
        refused = predict(microscope, [tmp_path / "slide.tif"], tmp_path / "more", **options)
        assert message in next(iter(refused.failed.values()))
    monkeypatch.undo()
    whole = predict(
        microscope, [tmp_path / "slide.tif"], tmp_path / "one", Sampling(votes=2, components=1)
    )
    assert 0 < whole.done[0]["volume"]["nucleus"] < written.done[0]["volume"]["nucleus"]


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_large_picture_of_another_format_keeps_it(
    suffix: str, microscope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(segmenting, "LARGE", 90 * 95)
    colours = np.random.default_rng(0).integers(0, 255, size=(110, 95, 3)).astype(np.uint8)
    Pillow.fromarray(colours).save(tmp_path / f"a{suffix}")
    written = predict(
        microscope,
        [tmp_path / f"a{suffix}"],
        tmp_path / "out",
        Sampling(votes=1),
        save=("mask", "probability"),
    )
    assert not written.failed
    assert "votes" not in written.done[0]
    mask = np.asarray(Pillow.open(tmp_path / f"out/a_mask{suffix}"))
    np.testing.assert_array_equal(
        mask, np.asarray(Pillow.open(tmp_path / "out/a_probability.png")) > 65535 / 2
    )


SIDE = 4100
"""Pixels along an axis of a large picture. In colours they are 50 million numbers; as float32 and
with two votes of two classes they would be 0.5 GiB.
"""

GROWTH = """
import json, sys
from pathlib import Path
from cdal.imaging.open import open_image
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.runtime.memory import peak_memory

folder = Path(sys.argv[1])
predictor, peaks = load(folder / "model.safetensors", Sampling(votes=2)), []
for name in ("small", "tiled"):
    written = predict(predictor, [folder / f"{name}.tif"], folder / "out")
    assert not written.failed, written.failed
    assert written.done[0]["vote_count"] == 2
    peaks.append(peak_memory())
with open_image(folder / "strip.tif", folder) as image:  # the way on is that of the other picture
    for start in range(0, image.shape[0], 256):
        image.rows(start, min(start + 256, image.shape[0]))
peaks.append(peak_memory())
print(json.dumps([1024 * (peak - peaks[0]) for peak in peaks[1:]]))
"""


@pytest.fixture(scope="module")
def growth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """MiB by which a process grows with a large picture, by its layout, beyond what a small one
    took.
    """
    folder = tmp_path_factory.mktemp("growth")
    data = DataSettings(
        spatial_dims=2,
        size=(256, 256),
        channels=3,
        intensities="range",
        overlap=0.02,
        whole=1.0,
        flips=(0,),
        mirror_votes=True,
    )
    recipe = Recipe("x", data, ImageUNetSettings(channels=(2, 4)))
    torch.manual_seed(0)
    weights = build_segmenter(recipe, 3, 2).network.state_dict()
    save_model(folder / "model.safetensors", weights, ModelHeader(recipe, ("background", "a"), 3))
    tile = np.random.default_rng(0).integers(0, 255, size=(256, 256, 3)).astype(np.uint8)
    tifffile.imwrite(folder / "small.tif", tile, photometric="rgb")
    tifffile.imwrite(
        folder / "tiled.tif",
        (tile for _ in range(math.ceil(SIDE / 256) ** 2)),
        shape=(SIDE, SIDE, 3),
        dtype=np.uint8,
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
    )
    whole = np.tile(tile, (17, 17, 1))[:SIDE, :SIDE]
    strip = {"rowsperstrip": SIDE, "photometric": "rgb", "compression": "zlib"}
    tifffile.imwrite(folder / "strip.tif", whole, compressionargs={"level": 1}, **strip)
    command = [sys.executable, "-c", GROWTH, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert tifffile.imread(folder / "out/tiled_mask.tif").shape == (SIDE, SIDE)
    return dict(zip(("tiled", "one compressed strip"), json.loads(ran.stdout), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["tiled", "one compressed strip"])
def test_memory_does_not_grow_with_the_picture(layout: str, growth: dict[str, float]):
    assert growth[layout] < 300
