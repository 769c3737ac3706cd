"""The JSON files that commands write have the fields that their schemas name, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cdal
from cdal.cli import main
from cdal.datasets.reviews import keep_held_out, keep_review
from cdal.experiments.speed.run import Measured
from cdal.inference.graph_engine import description_of
from cdal.runtime.files import write_json
from cdal.runtime.version import __version__
from cdal.segmenters.ensemble import ensemble
from cdal.segmenters.model_header import read_header
from cdal.segmenters.random_inputs import RandomInputs

jsonschema = pytest.importorskip("jsonschema")

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"


@pytest.fixture(scope="module")
def files(trained: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of each kind, written as commands write them."""
    out = tmp_path_factory.mktemp("files")
    for name in ("a", "b", "c"):
        picture = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
        np.save(out / f"{name}.npy", picture)
    pictures = [out / f"{name}.npy" for name in ("a", "b", "c")]
    sampling = cdal.Sampling(votes=2, review_below=0.5)
    both = ensemble([trained, trained], out / "both.safetensors")
    cdal.predict(both, pictures[:1], out, sampling)
    cdal.predict(trained, [*pictures[1:], out / "missing.npy"], out, save=["mask", "probability"])
    keep_review(out, "a.npy", str(pictures[0]), "accept", "a_mask.npy")
    (out / "reviewed").mkdir()
    (out / "reviewed" / "b.npy").write_bytes((out / "b_mask.npy").read_bytes())
    keep_review(out, "b.npy", str(pictures[1]), "fix", dice={"lesion": 0.5})
    keep_review(out, "c.npy", str(pictures[2]), "reject")
    keep_held_out(out, ["c"])
    words = ["--data", str(phantoms), "--votes", "2", "--out", str(out)]
    assert main(["evaluate", str(trained), *words]) == 0
    header = read_header(trained / "model.safetensors")
    random = RandomInputs(2, 16, 4, 4)
    about = description_of(header, header.recipe, 5, random, __version__)
    write_json(out / "graph.json", about)
    Measured({"threads": 2, "torch": "2.8"}, {"encoder": [{"votes": 1, "ms": 0.5}]}).write(out)
    (out / "splits.json").write_bytes((trained / "splits.json").read_bytes())
    return out


def validator(name: str) -> Any:
    """The validator of a schema, which is checked itself."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def first(content: Any, path: tuple[str | int, ...]) -> Any:
    """The value at a path; `*` is the first value of an object."""
    for key in path:
        content = next(iter(content.values())) if key == "*" else content[key]
    return content


OURS: dict[str, list[tuple[str | int, ...]]] = {
    "predictions": [(), ("predictions", 0), ("predictions", 0, "quality", "*")],
    "summary": [
        *((), ("mean",), ("mean", "interval"), ("classes", "*"), ("uncertainty",), ("protocol",)),
        *(("uncertainty", "risk"), ("cost",), ("quality",), ("quality", "classes", "*")),
    ],
    "review": [(), ("cases", "*")],
    "graph": [(), ("inputs",), ("outputs",), ("random",), ("header",)],
    "splits": [("*", 0)],
    "bench": [],
}
"""Objects of each file in which no other field may be."""


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_written_file_fits_its_schema(name: str, files: Path):
    content = json.loads((files / f"{name}.json").read_text(encoding="utf-8"))
    check = validator(name)
    check.validate(content)
    for path in OURS[name]:
        changed = json.loads(json.dumps(content))
        first(changed, path)["no_such_field"] = 1
        assert not check.is_valid(changed), path


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("predictions", lambda content: content["predictions"][0].pop("quality")),
        ("predictions", lambda content: content["predictions"][0].update(mask="../a.npy")),
        ("predictions", lambda content: content["predictions"][0].update(verdict="maybe")),
        ("summary", lambda content: content["mean"].pop("dice")),
        ("review", lambda content: content["cases"]["a.npy"].update(mask="a.npy")),
        ("review", lambda content: content["cases"]["b.npy"].update(mask=None)),
        ("graph", lambda content: content["header"].update(temperature=0)),
        ("splits", lambda content: content.update(x=[])),
        ("bench", lambda content: content.update(encoder={})),
    ],
)
def test_a_damaged_file_does_not(name: str, damage: Callable[[Any], object], files: Path):
    content = json.loads((files / f"{name}.json").read_text(encoding="utf-8"))
    damage(content)
    assert not validator(name).is_valid(content)


def test_there_is_a_test_for_every_schema_and_a_word_in_the_documentation():
    names = {path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.json")}
    assert names == set(OURS)
    described = (SCHEMAS.parent / "files.md").read_text(encoding="utf-8")
    assert not [name for name in names if f"schemas/{name}.schema.json" not in described]
