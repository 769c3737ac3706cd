"""What is saved of a prediction so that the page can show it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from cdal.serve.layers import saved_as_layers
from cdal.serve.opened import About
from helpers.files import numbers, picture
from helpers.serving import picture_model, served


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [
        ("picture", (512, 512), ("mask", "probability", "uncertainty", "votes")),
        ("volume", (512, 512, 512), ("mask", "uncertainty")),  # of which there are 5 votes
        ("slide", (90_000, 60_000), ("mask", "uncertainty")),
    ],
)
def test_all_layers_are_those_that_are_possible(kind, shape, expected):
    image = About(kind, shape, None)
    assert saved_as_layers(("layers",), image, 5) == expected
    assert saved_as_layers(("geojson", "layers", "mask"), image, 5)[0] == "geojson"


def test_a_client_gets_all_layers_with_one_word(tmp_path: Path):
    source = picture(tmp_path / "a.png", numbers((32, 32)))
    with served(tmp_path, [picture_model(tmp_path / "m.safetensors")]) as server:
        sent = {"file": (source.name, source.read_bytes())}
        reply = server.client.post("/v1/predict/m", files=sent, data={"save": "layers"})
    names = zipfile.ZipFile(io.BytesIO(reply.content)).namelist()
    assert sorted(names) == [
        "a_mask.png",
        "a_probability.png",
        "a_uncertainty.png",
        "a_votes.png",
        "predictions.json",
    ]
