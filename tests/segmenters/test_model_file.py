"""Model files: read again for every system, and refused where they are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cdal.runtime.errors import UserError
from cdal.segmenters import model_file
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import load_model, save_model
from cdal.segmenters.model_header import ModelHeader
from cdal.segmenters.segmenter import Segmenter, parameters
from helpers.recipes import small_recipe
from helpers.systems import APPLICABLE, random_batch, small


def no_header(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, path)


def wrong_weights(path: Path) -> None:
    save_model(path, {"w": torch.zeros(2)}, ModelHeader(small_recipe(), ("background", "a"), 1))


def newer(path: Path) -> None:
    save_file(
        {"w": torch.zeros(2)},
        path,
        {"cdal": json.dumps({"recipe": {}, "classes": ["a", "b"], "soul": 1})},
    )


def wrong_types(path: Path) -> None:
    save_file(
        {"w": torch.zeros(2)},
        path,
        {"cdal": json.dumps({"recipe": {}, "classes": ["a"], "image_channels": "x"})},
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "is no model file"),
        (lambda path: path.write_text("not a model"), "is no model file"),
        (no_header, "no cDAL header"),
        (wrong_weights, "do not fit its recipe"),
        (newer, "newer version"),
        (wrong_types, "cannot be read"),
    ],
)
def test_files_that_are_not_models_are_refused(make, message: str, tmp_path: Path):
    make(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=message):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("data", "system"), APPLICABLE)
def test_a_model_of_every_system_is_read_again(data: str, system: str, tmp_path: Path):
    recipe, classes = (
        small(data, system),
        ("background", *("abc"[: 1 if data == "phantoms" else 2])),
    )
    segmenter = build_segmenter(recipe, 1, len(classes)).eval()
    weights = segmenter.players()[segmenter.predictor].state_dict()
    save_model(tmp_path / "model.safetensors", weights, ModelHeader(recipe, classes, 1))
    loaded, header = load_model(tmp_path / "model.safetensors")
    assert header.recipe == recipe
    assert (tmp_path / "model.safetensors").stat().st_size < 4.2 * parameters(
        segmenter
    ) + 100_000  # each weight once
    image = random_batch(recipe, len(classes)).image
    votes = [one.sample(image, 2, torch.Generator().manual_seed(0)) for one in (segmenter, loaded)]
    assert torch.equal(*votes)


@pytest.mark.parametrize(
    "settings",
    [
        {"denoiser_blocks": 10_000},
        {"channels": (8, 12, 10_000)},
        {"latent": 10_000, "embedding": 10_000},
    ],
)
def test_a_small_file_of_a_huge_network_is_refused_before_it_takes_memory(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing but the weights' names and shapes is looked at."""
    recipe = small("phantoms", "cdal")
    segmenter = build_segmenter(recipe, 1, 2)
    weights = segmenter.players()[segmenter.predictor].state_dict()
    huge = replace(recipe, segmenter=replace(recipe.segmenter, **settings))
    save_model(tmp_path / "m.safetensors", weights, ModelHeader(huge, ("background", "a"), 1))

    def only_without_memory(*arguments: object) -> Segmenter:
        assert torch.empty(1).is_meta
        return build_segmenter(*arguments)

    monkeypatch.setattr(model_file, "build_segmenter", only_without_memory)
    with pytest.raises(UserError, match="do not fit its recipe"):
        load_model(tmp_path / "m.safetensors")
