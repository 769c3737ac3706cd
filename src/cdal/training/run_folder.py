"""A run folder: the recipe it belongs to, and its log: `metrics.jsonl`, TensorBoard events, the picture of the learning curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdal.datasets.layout import DataFolder
from cdal.datasets.partition import Split
from cdal.recipes.recipe import Recipe, load_recipe, to_dict, to_yaml
from cdal.runtime.errors import UserError
from cdal.runtime.files import write_json, write_text
from cdal.training.checkpoint import CHECKPOINT

MODEL = "model.safetensors"
"""The model file of a run."""

_RECIPE = "recipe.yaml"
_SPLIT = "splits.json"
_PARTITION = "run"


def check_same_recipe(out: Path, recipe: Recipe) -> None:
    """Make sure that the run in a folder, if there is one, is this one.

    Raises:
        UserError: the folder holds the checkpoint or the model of another recipe.
    """
    if not (out / CHECKPOINT).is_file() and not (out / MODEL).is_file():
        return
    there, here = _flat(to_dict(load_recipe(out / _RECIPE))), _flat(to_dict(recipe))
    differing = [
        f"{name} is {there.get(name)!r} there and {here.get(name)!r} now"
        for name in {**here, **there}
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise UserError(
            f"{out} holds a run of another recipe: {'; '.join(differing)}. "
            "Give the same settings to go on with it, or another --out."
        )


def claim(out: Path, recipe: Recipe) -> None:
    """Write the recipe into the run folder; errors as `check_same_recipe`."""
    check_same_recipe(out, recipe)
    write_text(out / _RECIPE, to_yaml(recipe))


def keep_split(out: Path, split: Split) -> None:
    """Write the names of the cases of each part beside the run, as a data folder would have them."""
    write_json(out / _SPLIT, {_PARTITION: [split.names()]})


def kept_split(out: Path, folder: DataFolder) -> Split | None:
    """The parts that a run began with, or none.

    Raises:
        UserError: a case of theirs is no longer there, or the file is damaged.
    """
    if not (out / _SPLIT).is_file() or not (out / CHECKPOINT).is_file():
        return None
    by_name = {case.name: case for case in folder.cases}
    try:
        (names,) = json.loads((out / _SPLIT).read_text(encoding="utf-8"))[_PARTITION]
        parts = [names[part] for part in ("train", "validation", "test")]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out / _SPLIT} is damaged: {error!r}. Take {out} away to train again.") from error
    if missing := [name for part in parts for name in part if name not in by_name]:
        raise UserError(
            f"{out} holds a run on other data: {folder.root} lacks its cases {', '.join(missing[:5])}. Give the data folder it "
            "began with, or another --out."
        )
    return Split(*(tuple(by_name[name] for name in part) for part in parts))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
