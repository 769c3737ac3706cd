"""What the tests of the benchmark share."""

from __future__ import annotations

import pytest

from cdal.experiments.speed import growth, inference
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe
from helpers.recipes import small_recipe
from helpers.systems import sized


@pytest.fixture
def this_machine() -> list[dict[str, object]]:
    """What a machine can do, made up."""
    best = {"best 2D convolution GFLOP/s": 80.0, "best 3D convolution GFLOP/s": 50.0}
    return [{"precision": precision, **best} for precision in ("float32", "bf16")]


@pytest.fixture
def small_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes as they are, but on patches that are quick."""
    sizes = {"hippocampus": (16, 32, 16), "monuseg": (32, 32)}

    def find(name: str) -> Recipe:
        return sized(name, sizes[name]) if name in sizes else find_recipe(name)

    monkeypatch.setattr(inference, "find_recipe", find)


@pytest.fixture
def small_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image network with few channels."""
    monkeypatch.setattr(growth, "find_recipe", lambda name: small_recipe())
