"""A run folder: the recipe of its run, the model and the split that the run started with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cdal.datasets.layout import DataFolder
from cdal.datasets.partition import Split
from cdal.datasets.tables import read_json
from cdal.recipes.recipe import Recipe, load_recipe, to_dict, to_yaml
from cdal.runtime.errors import UserError
from cdal.runtime.files import write_json, write_text
from cdal.segmenters.model_header import CHECKPOINT, MODEL
from cdal.training.start import Start

_RECIPE = "recipe.yaml"
_SPLIT = "splits.json"
_FROM = "from.json"
_PARTITION = "run"

_WITHOUT_EFFECT = "training.cache"
"""The setting that may change when a run is resumed: its result does not depend on it."""


def check_same_run(out: Path, recipe: Recipe, start: Start | None = None) -> None:
    """Check that the run in a folder, if any, has this recipe and started from this model.

    Args:
        out: run folder.
        recipe: recipe of the run.
        start: model that it starts from; `None` for random weights.

    Raises:
        UserError: the folder holds the checkpoint or the model of another run.
    """
    if not _holds_run(out):
        return
    differing = _differing(out, recipe)
    if differing:
        raise UserError(
            f"{out} holds a run of another recipe: {'; '.join(differing)}. Give the same settings "
            "to resume it, or another --out."
        )
    before = read_json(out / _FROM)
    if before.get("digest") != (start.digest if start else None):
        first = f"from {before.get('name')}" if before else "from random weights"
        now = f"from {start.name}" if start else "without --from"
        raise UserError(
            f"{out} holds a run that started {first}; now it is {now}, or from another model of "
            "this name. Give the same --from to resume it, or another --out."
        )


def is_same(out: Path, recipe: Recipe) -> bool:
    """Whether a folder holds the checkpoint or the model of a run with this recipe.

    Raises:
        UserError: the recipe there is missing or cannot be read.
    """
    return _holds_run(out) and not _differing(out, recipe)


def _holds_run(out: Path) -> bool:
    return (out / CHECKPOINT).is_file() or (out / MODEL).is_file()


def _differing(out: Path, recipe: Recipe) -> list[str]:
    """How the recipe of the run in a folder differs, in words."""
    stored, current = _flat(to_dict(load_recipe(out / _RECIPE))), _flat(to_dict(recipe))
    return [
        f"{name} is {stored.get(name)!r} there and {current.get(name)!r} now"
        for name in {**current, **stored}
        if stored.get(name) != current.get(name) and name != _WITHOUT_EFFECT
    ]


def claim(out: Path, recipe: Recipe, start: Start | None = None) -> None:
    """Write the recipe and the model to start from into the run folder.

    Raises:
        UserError: as `check_same_run`.
    """
    check_same_run(out, recipe, start)
    write_text(out / _RECIPE, to_yaml(recipe))
    if start is None:
        (out / _FROM).unlink(missing_ok=True)
    else:
        write_json(out / _FROM, {"name": start.name, "digest": start.digest})


def keep_split(out: Path, split: Split) -> None:
    """Write the names of the cases of each part to the run folder, as in a data folder."""
    write_json(out / _SPLIT, {_PARTITION: [split.names()]})


def kept_split(out: Path, folder: DataFolder) -> Split | None:
    """The split that the run in a folder started with; `None` without such a run.

    Raises:
        UserError: the data folder lacks a case of the split, or the file is damaged.
    """
    if not (out / _SPLIT).is_file() or not (out / CHECKPOINT).is_file():
        return None
    by_name = {case.name: case for case in folder.cases}
    try:
        (names,) = json.loads((out / _SPLIT).read_text(encoding="utf-8"))[_PARTITION]
        parts = [names[part] for part in ("train", "validation", "test")]
        for part in parts:
            if not isinstance(part, list) or not all(isinstance(name, str) for name in part):
                raise TypeError(f"expected a list of names; it is {part!r:.60}")
        if not parts[0]:
            raise ValueError("no case is in the part train")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{out / _SPLIT} is damaged: {error!r}. Delete {out} to train again."
        ) from error
    if missing := [name for part in parts for name in part if name not in by_name]:
        raise UserError(
            f"{out} holds a run on other data: {folder.root} lacks its cases "
            f"{', '.join(missing[:5])}. Give the data folder that it started with, or another "
            "--out."
        )
    return Split(*(tuple(by_name[name] for name in part) for part in parts))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else {f"{prefix}{name}": value}
        )
    return flat
