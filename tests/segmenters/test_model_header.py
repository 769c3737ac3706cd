"""What a model file says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cdal.runtime.errors import UserError
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import (
    ModelHeader,
    header_of,
    read_header,
)
from helpers.recipes import small_recipe


def test_a_model_file_says_what_it_was_given(tmp_path: Path):
    recipe = small_recipe()
    header = ModelHeader(
        recipe, ("background", "a"), 1, 7, {"a": 0.5}, {"train": ["x"]}, "free", 1.5
    )
    save_model(tmp_path / "m.safetensors", {"w": torch.arange(3.0)}, header)
    assert read_header(tmp_path / "m.safetensors") == header


def header_with(recipe: dict[str, object] | None = None, **changes: object) -> str:
    """The text of a header with other values; part by part in its recipe."""
    values = json.loads(ModelHeader(small_recipe(), ("background", "a"), 1).to_json())
    for part, fields in (recipe or {}).items():
        values["recipe"][part] |= fields
    return json.dumps({**values, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("null", "a mapping"),
        ('"x"', "a mapping"),
        ("3", "a mapping"),
        ("[" * 100_000, "recursion"),
        ("{}", "'classes' is missing"),
        (header_with(image_channels=-5), "image_channels must be 1 to 64"),
        (header_with(image_channels=10**9), "image_channels must be 1 to 64"),
        (header_with(image_channels=True), "image_channels"),
        (header_with(classes=[f"c{i}" for i in range(1000)]), "2 to 256 classes; it is 1000"),
        (header_with(classes="ab"), "2 to 256 classes; it is str"),
        (header_with(classes=["a", 1]), "must be text"),
        (header_with(classes=["a", "\udc80"]), "must be text"),
        (header_with(classes=["a", "a"]), "the same name"),
        (header_with(temperature=0), "temperature must be 0.001 to 1000"),
        (header_with(temperature="hot"), "temperature"),
        (header_with(temperature=[1]), "temperature"),
        (header_with(temperature=1e-300), "temperature"),
        (header_with(temperature=float("nan")), "temperature"),
        (header_with(step="a"), "step must be a number"),
        (header_with(scores=[]), "scores is"),
        (header_with(data=3), "data is"),
        (header_with(soul=1), "soul"),
        (header_with({"data": {"flips": [0] * 30}}), "m.safetensors.*each once"),
        (header_with({"data": {"size": [10**6] * 2}}), "m.safetensors.*data.size"),
        (header_with({"segmenter": {"denoiser_blocks": 10**6}}), "at most 10000"),
        (header_with({"segmenter": {"channels": [10**6] * 4}}), "at most 10000"),
        (header_with({"segmenter": {"energy": float("inf")}}), "finite"),
    ],
)
def test_a_header_of_impossible_values_is_refused(text: str, message: str):
    with pytest.raises(UserError, match=message):
        header_of(text, Path("m.safetensors"))
    assert header_of(header_with(temperature=2), Path("m.safetensors")).temperature == 2


@pytest.mark.parametrize(
    ("data", "names", "images", "before"),
    [
        ({}, set(), set(), set()),
        ({"train": ["x"], "validation": ["y"], "test": ["z"]}, {"x", "y"}, set(), set()),
        ({"train": ["x"], "test": ["z"], "images": {"x": "1", "z": "3"}}, {"x"}, {"1"}, set()),
        (
            {"train": ["x"], "images": {"x": "1"}, "from": {"images": ["5", "6"]}},
            {"x"},
            {"1", "5", "6"},
            {"5", "6"},
        ),
        ({"train": ["x"], "from": {"names": ["a"]}}, {"x", "a"}, set(), set()),
        ({"train": 3, "images": [1], "from": "m"}, set(), set(), set()),
        ({"train": ["x", 2], "images": {"x": 4}, "from": {"images": 7}}, {"x"}, set(), set()),
    ],
)
def test_what_a_model_has_seen_is_that_of_its_training_and_of_those_before(
    data: dict[str, object], names: set[str], images: set[str], before: set[str]
):
    """What is not of the form that a training writes counts as not known."""
    header = ModelHeader(small_recipe(), ("background", "a"), 1, data=data)
    assert header.seen == (names, images)
    assert header.seen_before[1] == before
