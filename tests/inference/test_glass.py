"""Glass around the tissue of a slide: found by its colour, left out, and told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

from cdal.imaging.formats import read_image
from cdal.imaging.grid import Frame
from cdal.imaging.image import Image
from cdal.imaging.reduce import reduced
from cdal.inference import glass
from cdal.inference.archive import brief
from cdal.inference.glass import may_have_glass, tissue, windows_to_keep
from cdal.inference.predict import predict
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.inference.torch_engine import TorchEngine
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.segmenters.model_header import ModelHeader
from helpers.data import real
from helpers.segmenters import Brightness

WHITE, PINK, BLUE = (243, 241, 244), (214, 150, 190), (90, 60, 140)
SIZE = 64
DATA = DataSettings(spatial_dims=2, size=(SIZE, SIZE), intensities="range", overlap=0.25)


class Dark(Brightness):
    """Finds what is dark, as a model of nuclei does."""

    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        return super().sample(-4 * image - 2, votes, rng)


def slide(rows: int = 600, columns: int = 700) -> np.ndarray:
    """A slide with a disc of tissue with nuclei, and one nucleus by itself, `[3, H, W]` float32."""
    rng = np.random.default_rng(0)
    picture = np.empty((3, rows, columns), np.float32)
    picture[:] = np.reshape(WHITE, (3, 1, 1))
    y, x = np.ogrid[:rows, :columns]
    disc = np.hypot(y - 200, x - 180) < 120
    nuclei = disc & (np.hypot(y % 24 - 12, x % 24 - 12) < 6)
    alone = np.hypot(y - 520, x - 600) < 7
    picture[:, disc] = np.reshape(PINK, (3, 1))
    picture[:, nuclei | alone] = np.reshape(BLUE, (3, 1))
    return (picture + rng.normal(0, 1.5, picture.shape)).round().clip(0, 255).astype(np.float32)


def predictor(segmenter: Brightness, **options: object) -> Predictor:
    recipe = Recipe("stained", DATA, ImageUNetSettings(channels=(4, 8, 8)))
    recipe = replace(recipe, training=replace(recipe.training, precision="32"))
    header = ModelHeader(recipe, ("background", "nucleus"), 3)
    engine = TorchEngine(segmenter.eval(), recipe)
    return Predictor(engine, header, recipe, Sampling(votes=2, **options), name="stained")


def image(array: np.ndarray, kind: type = np.uint8) -> Image:
    return Image(array, suffix=".tif", stored=np.dtype(kind))


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a few windows count as slides."""
    monkeypatch.setattr(glass, "LARGE", 2**16)


def cells(array: np.ndarray) -> np.ndarray:
    return reduced(image(array), (array.shape[1] // 16, array.shape[2] // 16))


def test_tissue_is_what_is_darker_than_glass_even_a_single_nucleus():
    picture = slide(38 * 16, 44 * 16)
    found = tissue(cells(picture))
    assert found is not None
    stained = (picture.min(axis=0) < 225).reshape(38, 16, 44, 16).mean(axis=(1, 3))
    np.testing.assert_array_equal(found[stained > 0.1], True)
    np.testing.assert_array_equal(found[stained == 0], False)
    assert found[520 // 16 - 1 : 520 // 16 + 2, 600 // 16 - 1 : 600 // 16 + 2].any()
    assert found.mean() < 0.2


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ((170, 110, 160), (235, 200, 225)),  # tissue, pale and dark
        ((150, 150, 150), (255, 255, 255)),  # a gray picture
        ((0, 0, 0), (20, 250, 60)),  # fluorescence
    ],
)
def test_pictures_without_glass_have_none(low: tuple[int, ...], high: tuple[int, ...]):
    mix = np.random.default_rng(0).beta(0.5, 0.5, (40, 40))
    thumbnail = np.stack([a + (b - a) * mix for a, b in zip(low, high, strict=True)])
    assert tissue(thumbnail.astype(np.float32)) is None
    assert tissue(np.full((3, 8, 8), 243, np.float32)) is None


def test_an_empty_slide_has_no_tissue():
    noise = np.random.default_rng(0).normal(0, 0.3, (3, 30, 30))
    found = tissue((np.reshape(WHITE, (3, 1, 1)) + noise).astype(np.float32))
    assert found is not None and not found.any()


def test_real_tissue_is_never_taken_for_glass():
    for path in sorted((real("monuseg") / "test" / "images").glob("*.png"))[:6]:
        assert tissue(cells(read_image(path).array)) is None, path.name


def test_only_large_pictures_in_colours_that_are_seen_in_windows_have_glass(small_is_large: None):
    picture = slide()
    data = DATA
    assert may_have_glass(Frame(image(picture), data), data)
    for other, settings in (
        (image(picture[:1]), data),
        (image(picture, np.uint16), data),
        (image(picture[:, :200, :200]), data),
        (image(picture), replace(data, resize=(300, 300))),
        (image(picture), replace(data, whole=20.0)),
        (image(picture[:, :50]), data),
        (Image(picture.reshape(3, 60, 70, 100), stored=np.dtype(np.uint8)), data),
    ):
        assert not may_have_glass(Frame(other, settings), settings)


def test_every_window_near_tissue_is_kept_and_the_share_is_that_of_the_rest(small_is_large: None):
    picture = slide()
    kept = windows_to_keep(Frame(image(picture), DATA), DATA)
    assert kept is not None
    step = 48
    tops, lefts = ([*range(0, n - SIZE, step), n - SIZE] for n in (600, 700))
    dark = picture.min(axis=0) < 225
    covered = np.zeros((600, 700), bool)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            near = dark[max(0, top - 16) : top + SIZE + 16, max(0, left - 16) : left + SIZE + 16]
            if near.any():
                assert kept.windows[row, column]
            if kept.windows[row, column]:
                covered[top : top + SIZE, left : left + SIZE] = True
    assert kept.skipped == pytest.approx(1 - covered.mean(), abs=1e-9)
    assert 0.3 < kept.skipped < 0.8
    empty = windows_to_keep(Frame(image(slide()[:, 300:480, :470]), DATA), DATA)
    assert empty is None or not empty.windows.all()


@pytest.mark.parametrize("stochastic", [False, True])
def test_tissue_gets_the_votes_that_it_gets_without_leaving_out(
    stochastic: bool, small_is_large: None
):
    picture = slide()
    seen, every = (
        predictor(Dark(stochastic), skip=skip).predict(image(picture), "a")
        for skip in (True, False)
    )
    assert every.signs.skipped == 0 < seen.signs.skipped
    left_out = (seen.probability[0] == 1) & (every.probability[0] != 1)
    assert left_out.mean() == pytest.approx(seen.signs.skipped, abs=1e-3)
    assert not left_out[picture.min(axis=0) < 225].any()
    assert (seen.uncertainty[left_out] == 0).all()
    for one, other in (
        (seen.mask, every.mask),
        (seen.probability[1], every.probability[1]),
        (seen.uncertainty, every.uncertainty),
    ):
        np.testing.assert_allclose(one[~left_out], other[~left_out], atol=1e-6)
    assert seen.mask.any()


def test_an_empty_slide_is_background(small_is_large: None):
    picture = np.random.default_rng(0).normal(np.reshape(WHITE, (3, 1, 1)), 1.5, (3, 300, 400))
    found = predictor(Dark()).predict(image(picture.round().astype(np.float32)), "a")
    assert found.signs.skipped == 1
    assert not found.mask.any() and (found.probability[0] == 1).all()


def test_a_model_that_looks_for_glass_sees_it(small_is_large: None):
    found = predictor(Brightness()).predict(image(slide()), "a")
    assert found.signs.skipped == 0
    assert found.mask[-100:, :100].all()


def test_what_was_left_out_is_told(small_is_large: None, tmp_path: Path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, np.moveaxis(slide().astype(np.uint8), 0, -1), photometric="rgb")
    rows = {}
    for skip in (True, False):
        written = predict(predictor(Dark(), skip=skip), [path], tmp_path / f"{skip}")
        assert not written.failed
        (rows[skip],) = json.loads((tmp_path / f"{skip}" / "predictions.json").read_text())[
            "predictions"
        ]
    assert "skipped" not in rows[False]
    assert 0.3 < rows[True]["skipped"] < 0.8
    assert rows[True]["volume"] == rows[False]["volume"]
    assert brief(rows[True])["skipped"] == rows[True]["skipped"]
    assert "skipped" not in brief(rows[False])
