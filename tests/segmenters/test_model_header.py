"""What a model file says of itself, and how a model is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cdal.runtime.errors import UserError
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader, find_model, read_header, shipped_models
from helpers.recipes import small_recipe


def test_a_model_file_says_what_it_was_given(tmp_path: Path):
    recipe = small_recipe()
    header = ModelHeader(
        recipe, ("background", "a"), 1, 7, {"a": 0.5}, {"train": ["x"]}, "free", 1.5
    )
    save_model(tmp_path / "m.safetensors", {"w": torch.arange(3.0)}, header)
    assert read_header(tmp_path / "m.safetensors") == header


def test_a_model_is_found_by_file_folder_or_name(trained: Path, tmp_path: Path):
    assert (
        find_model(trained)
        == find_model(trained / "model.safetensors")
        == trained / "model.safetensors"
    )
    with pytest.raises(UserError, match="Shipped: "):
        find_model("unheard-of")
    with pytest.raises(UserError, match="holds no model"):
        find_model(tmp_path)


def test_the_shipped_models_are_small_and_have_cards():
    shipped = shipped_models()
    assert {"hippocampus", "cxr", "monuseg"} <= set(shipped)
    for path in shipped.values():
        assert path.stat().st_size < 25e6
        assert path.with_suffix(".md").is_file()
