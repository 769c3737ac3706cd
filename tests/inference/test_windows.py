"""Windows over large images, blended as MONAI blends them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from cdal.inference import windows
from cdal.inference.torch_engine import TorchEngine
from cdal.inference.voting import vote_bands
from cdal.inference.windows import Plan, blend, starts
from cdal.recipes.recipe import DataSettings, Recipe, override
from cdal.segmenters.build import build_segmenter
from helpers.recipes import small_recipe
from helpers.segmenters import Brightness, shake


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    ("shape", "size"), [((37, 70), (16, 16)), ((33, 16, 21), (16, 16, 16)), ((16, 40), (16, 24))]
)
def test_windows_are_blended_as_monai_blends_them(
    overlap: float, shape: tuple[int, ...], size: tuple[int, ...]
):
    """With a network whose answer depends on where in the window a voxel lies."""
    place = np.random.default_rng(0).normal(size=size).astype(np.float32)
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    data = DataSettings(spatial_dims=len(shape), size=size, overlap=overlap)
    bands = blend(
        lambda x: np.stack([x * place, x + place]), lambda a, b: image[:, a:b], shape, data
    )
    found = np.concatenate([band.copy() for band in bands], axis=2)
    mode = "gaussian" if overlap else "constant"
    there = torch.from_numpy(place)
    for vote, network in zip(found, (lambda x: x * there, lambda x: x + there), strict=True):
        expected = sliding_window_inference(
            torch.from_numpy(image[None]), size, 1, network, overlap=overlap, mode=mode
        )
        np.testing.assert_allclose(vote, expected[0].numpy(), rtol=1e-3, atol=1e-4)


SHAPE, SIDE = (90, 130), 32


def votes_of(engine: TorchEngine, recipe: Recipe, plan: Plan | None = None) -> np.ndarray:
    """Three votes on noise in windows, `[3, 2, *SHAPE]`."""
    image = np.random.default_rng(2).normal(size=(1, *SHAPE)).astype(np.float32)
    rng = engine.generator(0, "case")
    bands = vote_bands(engine, lambda a, b: image[:, a:b], SHAPE, recipe, 3, rng, plan)
    return np.concatenate([band.copy() for band in bands], axis=2)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return override(small_recipe(), {"data.whole": 1.0, "data.mirror_votes": True})


@pytest.fixture(scope="module")
def diffusion(recipe: Recipe) -> TorchEngine:
    torch.manual_seed(0)
    segmenter = build_segmenter(recipe, 1, 2).eval()
    shake(segmenter)
    return TorchEngine(segmenter, recipe)


def test_windows_that_are_left_out_change_no_other(
    diffusion: TorchEngine, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
):
    """Not even the random draws of the others, which come in pairs here."""
    monkeypatch.setattr(windows, "VOXELS_AT_ONCE", {2: 2 * SIDE * SIDE})
    tops, lefts = (starts(length, SIDE, recipe.data.overlap) for length in SHAPE)
    keep = np.random.default_rng(3).random((len(tops), len(lefts))) < 0.5
    keep[0] = False  # a first band that has no window
    some, every = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    for row, column in np.ndindex(*keep.shape):
        part = np.s_[tops[row] : tops[row] + SIDE, lefts[column] : lefts[column] + SIDE]
        some[part] |= keep[row, column]
        every[part] &= keep[row, column]
    expected = votes_of(diffusion, recipe)
    found = votes_of(diffusion, recipe, Plan(keep, classes=2, ahead=True))
    assert (~some).mean() > 0.1 and every.mean() > 0.02
    np.testing.assert_allclose(found[..., every], expected[..., every], atol=1e-5)
    assert (found[:, 0][:, ~some] == 1).all() and (found[:, 1][:, ~some] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_the_size_of_a_batch_does_not_matter(
    diffusion: TorchEngine, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(windows, "VOXELS_AT_ONCE", {2: 2 * SIDE * SIDE})
    expected = votes_of(diffusion, recipe)
    monkeypatch.setattr(diffusion, "at_once", 4)
    np.testing.assert_allclose(votes_of(diffusion, recipe), expected, atol=1e-5)
    # Drawn as before random numbers could be drawn apart.
    monkeypatch.setattr(diffusion, "draws_apart", False)
    np.testing.assert_allclose(votes_of(diffusion, recipe), expected, atol=1e-5)


def test_a_segmenter_that_draws_while_it_computes_can_leave_out_windows(recipe: Recipe):
    engine = TorchEngine(Brightness(stochastic=True), recipe)
    assert not engine.draws_apart
    keep = np.zeros([len(starts(length, SIDE, recipe.data.overlap)) for length in SHAPE], bool)
    keep[1, 2] = True
    found, expected = (votes_of(engine, recipe, plan) for plan in (Plan(keep, classes=2), None))
    top, left = (
        starts(n, SIDE, recipe.data.overlap)[i] for n, i in zip(SHAPE, (1, 2), strict=True)
    )
    part = np.s_[..., top : top + SIDE, left : left + SIDE]
    np.testing.assert_allclose(found[part], expected[part], atol=1e-5)
    assert (found[:, 1] > 0).sum() == 3 * SIDE * SIDE
