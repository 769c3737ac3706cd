"""Images of any size, band after band: the same answer whatever the size of the bands, and memory that does not grow."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from cdal.imaging.formats import tiff
from cdal.imaging.grid import resized
from cdal.imaging.image import Image
from cdal.imaging.intensities import normalise
from cdal.inference import predict as predicting
from cdal.inference import segmented
from cdal.inference.decision import decide, spread
from cdal.inference.predict import predict
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.inference.torch_engine import TorchEngine
from cdal.inference.voting import draw_votes
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.polygons import rasterised
from helpers.recipes import small_recipe

CLASSES = ("background", "a", "b")


def predictor(**data: object) -> Predictor:
    """A network without chance, with random weights."""
    recipe = Recipe("x", DataSettings(**{"channels": 1, "whole": 1.0, **data}), ImageUNetSettings(channels=(4, 8, 8)))
    torch.manual_seed(0)
    engine = TorchEngine(build_segmenter(recipe, 1, 3).eval(), recipe)
    return Predictor(engine, ModelHeader(recipe, CLASSES, 1), recipe, Sampling(votes=2))


KINDS = {
    "a volume in windows": {"size": (16, 16, 16)},
    "a volume at another spacing": {"size": (16, 16, 16), "spacing": (1.3, 0.8, 1.0)},
    "a coarser volume in one piece": {"size": (16, 16, 16), "spacing": (3.0, 3.0, 3.0), "whole": 4.0},
    "slices with neighbours": {"spatial_dims": 2, "size": (16, 16), "neighbours": 1, "slice_axis": 1, "spacing": (1.1, 1.4, 0.9)},
    "slices in one piece": {"spatial_dims": 2, "size": (16, 16), "slice_axis": 2, "whole": 3.0},
}
AFFINES = {
    "straight": np.diag([1.0, 1.0, 1.0, 1.0]),
    "oblique": np.array([[0.1, -1.1, 0.2, 30.0], [1.0, 0.1, 0.1, -20.0], [0, 0.15, -1.2, 12.0], [0, 0, 0, 1]]),
    "none": None,
}
SHAPE = (37, 30, 26)


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("kind", KINDS)
def test_bands_of_any_height_are_the_whole_volume(kind: str, affine: str):
    """The same probabilities and spread to 1e-5, and so the same mask, as when the whole is resampled at once."""
    ours = predictor(**KINDS[kind], flips=(1,), mirror_votes=True)
    image = Image(np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32), AFFINES[affine])
    whole = ours.predict(image, "x")
    assert whole.uncertainty.max() > 0
    for rows in (1, 2, 7, 100):
        frame = ours.frame(image, "x")
        bands = list(ours.bands(frame, "x", "x", rows=rows))
        assert all(band.uncertainty.shape[0] <= rows for band in bands)
        for name, axis in (("probability", 1), ("uncertainty", 0)):
            joined = frame.straight(np.concatenate([getattr(band, name) for band in bands], axis=axis))
            np.testing.assert_allclose(joined, getattr(whole, name), atol=1e-5)
        mask = frame.straight(np.concatenate([decide(band.probability) for band in bands]))
        sure = np.abs(np.diff(np.sort(whole.probability, axis=0)[1:], axis=0)[0]) > 1e-5
        np.testing.assert_array_equal(mask[sure], whole.mask[sure])


@pytest.mark.parametrize("affine", AFFINES)
def test_a_volume_lands_where_nibabel_says(affine: str):
    """What is bright becomes class 1 of a network that looks at brightness alone: in place, whatever the axes and the spacing."""
    from helpers.segmenters import Brightness

    data = DataSettings(spacing=(1.0, 1.0, 1.0), size=(64, 64, 64), channels=1)
    recipe = Recipe("bright", data, ImageUNetSettings(channels=(4, 8, 8)))
    ours = Predictor(TorchEngine(Brightness().eval(), recipe), ModelHeader(recipe, CLASSES[:2], 1), recipe, Sampling())
    array = np.zeros((1, *SHAPE), np.float32)
    array[:, 5:20, 8:14, 3:9] = 100
    found = ours.predict(Image(array, AFFINES[affine])).mask
    np.testing.assert_array_equal(found[7:18, 10:12, 5:7], 1)
    assert (found != (array[0] > 50)).mean() < 0.02


@given(height=st.integers(20, 90), width=st.integers(20, 60), rows=st.integers(1, 100))
@settings(max_examples=15)
def test_a_picture_seen_whole_comes_back_the_same_in_bands_of_any_height(height: int, width: int, rows: int):
    ours = predictor(spatial_dims=2, size=(32, 32), resize=(32, 32))
    image = Image(np.random.default_rng(0).normal(size=(1, height, width)).astype(np.float32))
    frame = ours.frame(image, "x")
    grid: list[np.ndarray] = []
    bands = list(ours.bands(frame, "x", "x", rows=rows, on_grid=grid))
    (mean,) = grid
    np.testing.assert_allclose(
        np.concatenate([band.probability for band in bands], axis=1), resized(mean, (height, width)), atol=1e-5
    )


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(32, 32), (97, 64), (70, 131), (20, 80), (80, 20)])
@pytest.mark.parametrize("intensities", ["range", "image"])
def test_a_picture_in_bands_is_as_its_votes_in_one_piece(overlap: float, shape: tuple[int, int], intensities: str):
    ours = predictor(spatial_dims=2, size=(32, 32), overlap=overlap, intensities=intensities, flips=(1,), mirror_votes=True)
    picture = Image(np.random.default_rng(0).integers(0, 255, size=(1, *shape)).astype(np.float32), stored=np.dtype(np.uint8))
    bands = list(ours.bands(ours.frame(picture, "x"), "x", "x", rows=9))
    values = normalise(picture.array, intensities, picture.stored, "x")
    votes = draw_votes(ours.engine, values, ours.recipe, 2, None)
    np.testing.assert_allclose(
        np.concatenate([band.probability for band in bands], axis=1), votes.mean(axis=0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(np.concatenate([band.uncertainty for band in bands]), spread(votes), rtol=1e-4, atol=1e-5)


def test_results_kept_on_disk_are_those_kept_in_memory(volume_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    array = np.random.default_rng(0).normal(size=(40, 30, 35)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, AFFINES["oblique"]), tmp_path / "v.nii.gz")
    kinds = ("mask", "probability", "uncertainty", "votes")
    predict(volume_model, [tmp_path / "v.nii.gz"], tmp_path / "memory", Sampling(votes=2), kinds)
    monkeypatch.setattr(predicting, "LARGE", 1)
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
        small, data=DataSettings(spatial_dims=2, size=(256, 256), channels=3, intensities="range", overlap=0.1, whole=1.0)
    )
    torch.manual_seed(0)
    segmenter = build_segmenter(settings_, 3, 2)
    torch.nn.init.normal_(segmenter.generator.head.weight, std=0.3)
    path = tmp_path_factory.mktemp("models") / "microscope.safetensors"
    save_model(path, segmenter.generator.state_dict(), ModelHeader(settings_, ("background", "nucleus"), 3))
    return path


def test_a_large_picture_gets_its_results_band_by_band(microscope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiff, "LARGE", 280 * 290)
    monkeypatch.setattr(predicting, "LARGE", 280 * 290)
    colours = np.random.default_rng(0).integers(0, 255, size=(300, 290, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "slide.tif", colours, tile=(128, 128), photometric="rgb")
    kinds = ("mask", "probability", "uncertainty", "geojson")
    written = predict(microscope, [tmp_path / "slide.tif"], tmp_path / "out", Sampling(votes=2), save=kinds)
    assert not written.failed
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
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
    np.testing.assert_array_equal(rasterised(tmp_path / "out/slide_objects.geojson", mask.shape, ("background", "nucleus")), mask)
    monkeypatch.setattr(segmented, "MOST_WHOLE", 280 * 290)
    for options, message in (
        ({"save": ("votes",)}, "Save mask, probability"),
        ({"sampling": Sampling(components=1)}, "components 0"),
    ):
        refused = predict(microscope, [tmp_path / "slide.tif"], tmp_path / "more", **options)
        assert message in next(iter(refused.failed.values()))
    monkeypatch.undo()
    whole = predict(microscope, [tmp_path / "slide.tif"], tmp_path / "one", Sampling(votes=2, components=1))
    assert 0 < whole.done[0]["volume"]["nucleus"] < written.done[0]["volume"]["nucleus"]


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_large_picture_of_another_format_keeps_it(suffix: str, microscope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(predicting, "LARGE", 280 * 290)
    colours = np.random.default_rng(0).integers(0, 255, size=(300, 290, 3)).astype(np.uint8)
    Pillow.fromarray(colours).save(tmp_path / f"a{suffix}")
    written = predict(microscope, [tmp_path / f"a{suffix}"], tmp_path / "out", Sampling(votes=1), save=("mask", "probability"))
    assert not written.failed
    assert "votes" not in written.done[0]
    mask = np.asarray(Pillow.open(tmp_path / f"out/a_mask{suffix}"))
    np.testing.assert_array_equal(mask, np.asarray(Pillow.open(tmp_path / "out/a_probability.png")) > 65535 / 2)


@pytest.mark.parametrize("layout", ["tiled", "one compressed strip"])
def test_memory_does_not_grow_with_the_picture(layout: str, microscope: Path, tmp_path: Path):
    """4100 x 4100 pixels in colours are 50 million numbers, which as float32 and with two votes of two classes would be 0.5 GiB."""
    n = 4100
    tile = np.random.default_rng(0).integers(0, 255, size=(256, 256, 3)).astype(np.uint8)
    if layout == "tiled":
        tiles = (tile for _ in range(math.ceil(n / 256) ** 2))
        tifffile.imwrite(
            tmp_path / "big.tif", tiles, shape=(n, n, 3), dtype=np.uint8, tile=(256, 256), photometric="rgb", compression="zlib"
        )
    else:
        whole = np.tile(tile, (17, 17, 1))[:n, :n]
        tifffile.imwrite(tmp_path / "big.tif", whole, rowsperstrip=n, photometric="rgb", compression="zlib")
    code = (
        "import resource, sys\n"
        "from cdal.inference.predict import predict\n"
        "from cdal.inference.sampling import Sampling\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "written = predict(sys.argv[1], [sys.argv[2]], sys.argv[3], Sampling(votes=2, timesteps=1))\n"
        "assert not written.failed, written.failed\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 2**10)\n"
    )
    command = [sys.executable, "-c", code, str(microscope), str(tmp_path / "big.tif"), str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert tifffile.imread(tmp_path / "out/big_mask.tif").shape == (n, n)
    assert float(ran.stdout) < 300  # MiB beyond what the libraries take
