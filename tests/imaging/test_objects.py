"""Single objects as polygons and numbers; large pictures by region."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from PIL import Image as Pillow
from scipy import ndimage

from cdal.imaging import objects
from cdal.imaging import rows as regions
from cdal.imaging.annotations.geojson import write_geojson
from cdal.imaging.formats.tiff import write_tiled
from cdal.imaging.image import Image
from cdal.imaging.intensities import normalise
from cdal.imaging.objects import number_objects
from cdal.imaging.regions import open_regions
from cdal.imaging.rows import InMemory, RowStore
from cdal.inference import predict as prediction
from cdal.inference.decision import spread
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.predictor import Predictor
from cdal.inference.torch_engine import TorchEngine
from cdal.inference.voting import draw_votes
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.data import SHARED
from helpers.recipes import small_recipe

# Polygons


def rasterised(path: Path, shape: tuple[int, int], names: tuple[str, ...]) -> np.ndarray:
    """The polygons filled by matplotlib, holes taken out: a pixel is inside if its centre, (column + 0.5, row + 0.5), is."""
    filled = np.zeros(shape, np.uint8)
    for feature in json.loads(path.read_text())["features"]:
        rings = [np.array(ring) for ring in feature["geometry"]["coordinates"]]
        (left, top), (right, bottom) = np.floor(rings[0].min(axis=0)).astype(int), np.ceil(rings[0].max(axis=0)).astype(int)
        y, x = np.mgrid[top:bottom, left:right]
        centres = np.c_[x.ravel() + 0.5, y.ravel() + 0.5]
        outer, *holes = (Outline(ring).contains_points(centres).reshape(y.shape) for ring in rings)
        for hole in holes:
            outer &= ~hole
        assert outer.sum() == feature["properties"]["area"]
        filled[top:bottom, left:right][outer] = names.index(feature["properties"]["classification"]["name"])
    return filled


@given(st.integers(0, 10_000), st.integers(8, 40), st.sampled_from([4, 9, 2048]))
@settings(max_examples=60)
def test_polygons_give_the_mask_back(seed: int, size: int, band: int):
    rng = np.random.default_rng(seed)
    mask = (ndimage.gaussian_filter(rng.normal(size=(size, size + 3)), 1.2) > 0.02).astype(np.uint8)
    mask[:, size // 2 :] *= 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "_BAND", band)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.geojson"
            count = write_geojson(path, lambda a, b: mask[a:b], mask.shape, ("background", "a", "b"))
            np.testing.assert_array_equal(rasterised(path, mask.shape, ("background", "a", "b")), mask)
    assert count == sum(ndimage.label(mask == k)[1] for k in (1, 2))


def test_touching_objects_are_parted_and_the_mask_is_kept():
    y, x = np.mgrid[:60, :90]
    discs = [np.hypot(y - 30, x - c) for c in (25, 48, 75)]
    mask = np.min(discs, axis=0) < 13
    numbered = number_objects(mask, np.clip(1.2 - np.min(discs, axis=0) / 26, 0, 1))
    assert numbered.max() == 3
    np.testing.assert_array_equal(numbered > 0, mask)
    for distance in discs:
        assert len(np.unique(numbered[distance < 8])) == 1
    assert number_objects(mask * 0, mask * 0.0).max() == 0


def test_a_single_pixel_is_an_object():
    mask = np.zeros((20, 20), bool)
    mask[3, 3] = mask[10:15, 10:15] = True
    assert number_objects(mask, mask * 0.9).max() == 2


def test_most_real_nuclei_are_told_apart():
    """From the true outlines' union alone, the number of nuclei comes out to within a fifth."""
    from cdal.imaging.annotations.aperio import rasterise, read_outlines

    annotations = sorted((SHARED / "monuseg/test/annotations").glob("*.xml.gz"))[:4]
    if not annotations:
        pytest.skip(f"MoNuSeg is not in {SHARED} (set CDAL_TEST_DATA)")
    for path in annotations:
        size = Pillow.open(path.parents[1] / "images" / f"{path.name[:-7]}.png").size[::-1]
        truth = rasterise(read_outlines(path), size)
        found = number_objects(truth > 0, (truth > 0) * 1.0).max()
        assert found == pytest.approx(len(np.unique(truth)) - 1, rel=0.2)


# Regions


LAYOUTS = [
    {"tile": (32, 48)},
    {"tile": (32, 48), "compression": "zlib", "predictor": True},
    {"tile": (64, 64), "compression": "lzw", "photometric": "rgb"},
    {"rowsperstrip": 7},
    {"rowsperstrip": 7, "compression": "zlib"},
    {"rowsperstrip": 100, "compression": "zlib", "photometric": "rgb"},
    {"byteorder": ">"},
    {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    {"photometric": "miniswhite"},
    {},
]


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("one_strip", [False, True])
def test_rows_are_those_of_the_whole(options: dict, kind: type, one_strip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(regions, "LARGE", 1)
    if one_strip:
        monkeypatch.setattr(regions, "_LARGEST_STRIP", 1)
    samples = 4 if "extrasamples" in options else 3 if options.get("photometric") == "rgb" else 0
    array = np.random.default_rng(0).integers(0, 250, size=(100, 110, *([samples] if samples else []))).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    expected = array[..., :3] if samples else array[..., None]
    expected = np.invert(expected) if options.get("photometric") == "miniswhite" else expected
    with open_regions(tmp_path / "a.tif", tmp_path) as opened:
        assert opened is not None
        assert (opened.shape, opened.channels, opened.stored) == ((100, 110), max(1, min(3, samples)), kind)
        for start, stop in ((0, 100), (0, 1), (31, 65), (99, 100), (7, 14)):
            np.testing.assert_array_equal(np.moveaxis(opened.rows(start, stop), 0, -1), expected[start:stop])


@pytest.mark.parametrize("labels", [True, False])
def test_rows_become_a_tiled_tiff(labels: bool, tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 3, size=(300, 517)).astype(np.uint8 if labels else np.float32)
    store = RowStore(tmp_path / "rows", 517, array.dtype)
    for top in range(0, 300, 77):
        store.append(array[top : top + 77])
    write_tiled(tmp_path / "m.tif", store, 300, Image(np.zeros((1, 0, 0)), suffix=".tif"), labels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), array)
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.pages[0].is_tiled


def recipe(**data: object) -> Recipe:
    return Recipe(
        "x", DataSettings(**{"spatial_dims": 2, "size": (32, 32), "channels": 1, **data}), ImageUNetSettings(channels=(4, 8, 8))
    )


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(32, 32), (97, 64), (70, 131)])
@pytest.mark.parametrize("intensities", ["range", "image"])
def test_by_region_is_as_in_memory(overlap: float, shape: tuple[int, int], intensities: str):
    """A network without chance gives the same mean and spread, to rounding, whether the picture is in memory or comes by rows."""
    torch.manual_seed(0)
    settings_ = recipe(overlap=overlap, intensities=intensities, flips=(1,), mirror_votes=True, whole=1.0)
    engine = TorchEngine(build_segmenter(settings_, 1, 3).eval(), settings_)
    predictor = Predictor(engine, ModelHeader(settings_, ("background", "a", "b"), 1), settings_)
    picture = Image(np.random.default_rng(0).integers(0, 255, size=(1, *shape)).astype(np.float32), stored=np.dtype(np.uint8))
    bands = list(predictor.predict_by_region(InMemory(picture), "x", 2))
    values = normalise(picture.array, intensities, picture.stored, "x")
    whole = draw_votes(engine, values, settings_, 2, None)
    for i, expected in enumerate((whole.mean(axis=0), spread(whole))):
        np.testing.assert_allclose(np.concatenate([band[i] for band in bands], axis=-2), expected, rtol=1e-4, atol=1e-4)


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


def test_a_large_picture_gets_its_results_by_region(microscope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(regions, "LARGE", 280 * 290)
    colours = np.random.default_rng(0).integers(0, 255, size=(300, 290, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "slide.tif", colours, tile=(128, 128), photometric="rgb")
    kinds = ("mask", "probability", "uncertainty", "geojson")
    written = predict(microscope, [tmp_path / "slide.tif"], tmp_path / "out", votes=2, save=kinds)
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
    refused = predict(microscope, [tmp_path / "slide.tif"], tmp_path / "more", save=("votes",))
    assert "by region, which gives no votes" in next(iter(refused.failed.values()))
    with pytest.raises(UserError, match="cannot segment a picture"):
        list(load(microscope).predict_by_region(InMemory(Image(np.zeros((3, 10, 10), np.float32))), "x"))
    with pytest.raises(UserError, match="--components 0 keeps all"):
        list(load(microscope, components=1).predict_by_region(InMemory(Image(np.zeros((3, 300, 290), np.float32))), "x"))
    whole = predict(microscope, [tmp_path / "slide.tif"], tmp_path / "one", votes=2, components=1)
    assert 0 < whole.done[0]["volume"]["nucleus"] < written.done[0]["volume"]["nucleus"]


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_large_picture_of_another_format_keeps_it(suffix: str, microscope: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prediction, "LARGE", 280 * 290)
    colours = np.random.default_rng(0).integers(0, 255, size=(300, 290, 3)).astype(np.uint8)
    Pillow.fromarray(colours).save(tmp_path / f"a{suffix}")
    written = predict(microscope, [tmp_path / f"a{suffix}"], tmp_path / "out", votes=1, save=("mask", "probability"))
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
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "written = predict(sys.argv[1], [sys.argv[2]], sys.argv[3], votes=2, timesteps=1)\n"
        "assert not written.failed, written.failed\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 2**10)\n"
    )
    command = [sys.executable, "-c", code, str(microscope), str(tmp_path / "big.tif"), str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert tifffile.imread(tmp_path / "out/big_mask.tif").shape == (n, n)
    assert float(ran.stdout) < 300  # MiB beyond what the libraries take
