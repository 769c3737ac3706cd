"""Small valid files that cDAL writes or that describe data, for `helpers.mutants`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from cdal.datasets.check import check_folder
from cdal.datasets.reviews import read_reviews
from cdal.evaluation.before_after import kept_before_after
from cdal.evaluation.comparison import compare
from cdal.evaluation.result import read_result
from cdal.evaluation.review.cases import read_results
from cdal.inference.graph_engine import description_of, read_description
from cdal.inference.record import ResultsOf
from cdal.recipes.recipe import load_recipe, to_yaml
from cdal.runtime.cost import kept_cost
from cdal.runtime.errors import UserError
from cdal.runtime.version import __version__
from cdal.segmenters.model_file import load_model
from cdal.segmenters.model_header import read_header
from cdal.segmenters.random_inputs import RandomInputs
from helpers.files import disc, picture
from helpers.graphs import small_model
from helpers.recipes import small_recipe
from helpers.results import evaluation_on_disk
from helpers.review import discs, quality
from helpers.seeds import Seed

FILES = (
    "model file",
    "recipe",
    "description of a graph",
    "record of predictions",
    "reviews",
    "evaluation",
    "comparison before and after",
    "cost",
    "data folder",
)
"""Names of the readers."""


def file_seeds() -> dict[str, list[Seed]]:
    """Seeds by the name of the reader."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = (
            [_model(folder)],
            [_text("recipe.yaml", to_yaml(small_recipe()), load_recipe)],
            [_description(folder)],
            [_record(folder)],
            [_reviews()],
            _evaluation(folder),
            [_before_after()],
            [_text("cost.json", '{"steps": 3, "seconds": 1.5}', _beside(kept_cost))],
            _data(folder),
        )
        return dict(zip(FILES, made, strict=True))


def _text(
    name: str, content: str, need: Callable[[Path], object], beside: dict[str, bytes] | None = None
) -> Seed:
    def read(path: Path) -> None:
        with suppress(UserError):
            need(path)

    return Seed(name, content.encode(), read, need, text=True, beside=beside or {})


def _beside(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Read the folder that a file is in."""
    return lambda path: read(path.parent)


def _model(folder: Path) -> Seed:
    def load(path: Path) -> None:
        read_header(path)
        load_model(path)

    def read(path: Path) -> None:
        with suppress(UserError):
            load(path)

    path = small_model("cdal-unet", folder)
    return Seed("a.safetensors", path.read_bytes(), read, load, text=True)


def _description(folder: Path) -> Seed:
    header = read_header(small_model("cdal-unet", folder))
    about = description_of(header, header.recipe, 1, RandomInputs(), __version__)
    return _text(
        "a.json", json.dumps(about), lambda path: read_description(path.with_suffix(".onnx"))
    )


def _record(folder: Path) -> Seed:
    estimated = {"disc": quality(0.9, [0.8, 1.0], [1.0, 2.0])}
    fields = {"quality": estimated, "warnings": ["x"], "outside": True, "verdict": "review"}
    results = discs(folder / "discs", 2, **fields)
    content = (results / "predictions.json").read_text(encoding="utf-8")

    def need(path: Path) -> None:
        assert "nothing" not in ResultsOf([path.parent])
        read_results(path.parent)

    return _text("predictions.json", content, need)


def _reviews() -> Seed:
    review = {
        "input": "a.png",
        "verdict": "fix",
        "when": "2026-01-02T03:04:05+00:00",
        "mask": "a.png",
        "dice": {"disc": 0.5},
        "digest": "0" * 64,
    }
    content = {"version": 1, "held_out": ["b"], "cases": {"a.png": review}}
    return _text("review.json", json.dumps(content), _beside(read_reviews))


def _evaluation(folder: Path) -> list[Seed]:
    made = evaluation_on_disk(folder / "evaluation", "x", np.full((6, 2), 0.5))

    def need(path: Path) -> None:
        read_result(path.parent)
        compare([f"a={path.parent}", f"b={path.parent}"])

    files = {path.name: path.read_bytes() for path in made.iterdir()}
    return [
        _text(name, content.decode(), need, {k: v for k, v in files.items() if k != name})
        for name, content in files.items()
    ]


def _before_after() -> Seed:
    content = {"cases": 3, "before": {"a": 0.5}, "after": {"a": 0.75}, "better": True}

    def need(path: Path) -> None:
        compared = kept_before_after(path.parent)
        assert compared is None or compared.lines()

    return _text("before_after.json", json.dumps(content), need)


def _data(folder: Path) -> list[Seed]:
    """The tables and the description of a data folder of two pictures."""
    images = {
        f"{part}/{name}.png": picture(folder / part / f"{name}.png", array).read_bytes()
        for part, factor in (("images", 150), ("labels", 1))
        for name, array in (("a", factor * disc(24, 6)), ("b", factor * disc(24, 8)))
    }
    texts = {
        "dataset.json": json.dumps({"name": "x", "labels": {"background": 0, "disc": 1}}),
        "cases.csv": "case,patient\na,p1\nb,p2\n",
        "splits.json": json.dumps({"main": [{"train": ["a"], "validation": [], "test": ["b"]}]}),
    }
    return [
        _text(
            name,
            content,
            _beside(check_folder),
            images | {other: texts[other].encode() for other in texts if other != name},
        )
        for name, content in texts.items()
    ]
