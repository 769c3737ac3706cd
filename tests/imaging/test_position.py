"""The place of each voxel as channels, and that networks get it in training and at prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdal.datasets.cases import BatchSource
from cdal.datasets.phantoms import write_phantoms
from cdal.imaging.position import positions, with_positions
from cdal.inference.export import export
from cdal.inference.load import load
from cdal.inference.sampling import Sampling
from cdal.inference.voting import draw_votes
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe, override
from cdal.runtime.errors import UserError
from cdal.training.train import train
from helpers.cases import make_case
from helpers.recipes import small_recipe


def test_coordinates_rise_along_their_axis_like_a_normalised_image():
    rows, columns = positions((5, 3))
    np.testing.assert_allclose(rows[:, 1], np.sqrt(3) * np.array([-1, -0.5, 0, 0.5, 1]), rtol=1e-6)
    np.testing.assert_allclose(columns[2], np.sqrt(3) * np.array([-1, 0, 1]), rtol=1e-6)
    many = positions((400, 300))
    np.testing.assert_allclose(many.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(many.var(axis=(1, 2)), 1, rtol=0.01)
    assert positions((1, 4))[0].max() == 0
    images = np.ones((2, 3, 5, 3), np.float32)
    seen = with_positions(images)
    assert seen.shape == (2, 5, 5, 3) and seen.dtype == np.float32
    assert (seen[:, :3] == 1).all() and (seen[1, 3:] == positions((5, 3))).all()


class Seeing:
    """An engine that keeps what it is shown."""

    stochastic, parameters = False, 0

    def about(self) -> dict[str, Any]:
        return {}

    def generator(self, seed: int, /, *keys: int | str) -> Any:
        return None

    def sample(self, image: np.ndarray, votes: int, rng: Any) -> np.ndarray:
        self.seen = image.copy()
        return np.full((1, len(image), 2, *image.shape[2:]), 0.5, np.float32)


def recipe_with_positions(**data: Any) -> Recipe:
    recipe = small_recipe(calibrate=False)
    changed = replace(recipe.data, position=True, whole=1.0, shift=0.0, **data)
    return replace(recipe, data=changed)


def test_networks_see_the_same_places_in_training_and_at_prediction():
    """In a mirror image, too: the picture is turned, its places are not."""
    recipe, engine = recipe_with_positions(mirror_votes=True), Seeing()
    batch = BatchSource([make_case("a", (32, 32))], recipe.data, 1, seed=0)(0)
    image = np.arange(32.0 * 32, dtype=np.float32).reshape(1, 32, 32)
    draw_votes(engine, image, recipe, 2, None)
    np.testing.assert_array_equal(engine.seen[0, 1:], batch.image[0, 1:].numpy())
    np.testing.assert_array_equal(engine.seen[0, 1:], positions((32, 32)))
    assert not np.array_equal(engine.seen[0, :1], image)


def test_a_larger_picture_has_no_such_places():
    image = np.zeros((1, 64, 32), np.float32)
    with pytest.raises(UserError, match=r"32 x 32 whole, .* this one has 64 x 32\. Cut it so"):
        draw_votes(Seeing(), image, recipe_with_positions(), 1, None)
    with pytest.raises(UserError, match=r"data\.position must be false for volumes"):
        override(find_recipe("hippocampus"), {"data.position": True})


@pytest.mark.slow
def test_a_model_that_knows_places_trains_predicts_and_is_exported(tmp_path: Path):
    data = write_phantoms(tmp_path / "data", 12, seed=1, size=32, raters=1)
    model = train(recipe_with_positions(), data, tmp_path / "run", "cpu")
    image = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    probability = load(model, Sampling(votes=3)).predict(image, case="a").probability
    assert probability.shape == (2, 32, 32)
    moved = load(model, Sampling(votes=3)).predict(np.roll(image, 8, 0), case="a").probability
    assert not np.allclose(np.roll(probability, 8, 1), moved, atol=1e-3)
    plain = load(model, Sampling(timesteps=0))
    exported = load(export(model, "onnx", tmp_path, timesteps=0)).predict(image).probability
    np.testing.assert_allclose(exported, plain.predict(image).probability, atol=1e-4)
