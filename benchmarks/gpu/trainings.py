"""Training steps of the plan: the paper's network, all systems, and all sizes of the default."""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from plan import KEPT, LARGEST_RESULT, PACKED, STEPS
from record import Record

from cdal.datasets.check import Check, check_folder
from cdal.evaluation.evaluate import evaluate
from cdal.evaluation.result import write_result
from cdal.experiments import EXPERIMENTS
from cdal.experiments.experiment import Arm
from cdal.inference.load import load
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe, load_recipe, override
from cdal.recipes.sizes import SIZES, sized
from cdal.runtime.cost import kept_cost
from cdal.training.log import read_log
from cdal.training.train import train

_SCORING = {"paper": 100.0, "systems": 20.0, "sizes": 20.0}
"""Seconds reserved after a training to score the test cases, by kind of step."""

_PAPER_VALIDATES_EVERY = {"hippocampus": 2000}
"""Steps between validations of the paper's network; 500 for other data.

A validation of the volumes takes as long as a thousand steps.
"""

_SIZE_MINUTES = 1.5
"""Training time of each size."""

_SYSTEM_SECONDS = 60.0
"""Training time of each system in seconds."""

_TINY: dict[str, Any] = {
    "training.steps": 2,
    "training.minutes": None,
    "training.validate_every": 1,
    "training.precision": "32",
    "segmenter.votes": 2,
    "segmenter.channels": (8, 8, 8),
}


def small(recipe: Recipe, fields: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe for a rehearsal: two steps of a small network; pictures are made small too."""
    sees_pictures = recipe.data.resize or recipe.name == "monuseg"
    pictures = (
        {"data.resize": (32, 32), "data.size": (16, 16), "data.shift": 1} if sees_pictures else {}
    )
    return override(recipe, {**_TINY, **pictures, **(fields or {})})


def run(record: Record, name: str, device: str, tiny: bool, seconds: float) -> None:
    """Run a training step; its name is `KIND-DATASET`."""
    deadline = time.monotonic() + seconds
    kind, _, data = name.partition("-")
    checked = check_folder(PACKED / STEPS[name].data[0])
    runs = KEPT / "runs" / (f"{name}-tiny" if tiny else name)
    if kind == "paper":
        paper(record, f"{data}-paper", checked, runs, device, tiny, seconds)
        return
    recipes = sizes(data, tiny) if kind == "sizes" else systems(data, tiny)
    record.expect(recipes)
    for system, recipe in recipes.items():
        needed = 60 * (recipe.training.minutes or 0.0) + _SCORING[kind]
        if (
            system not in record.content["parts"]
            and time.monotonic() + needed > deadline
            and not tiny
        ):
            print(f"[{system}] no time left", flush=True)
            continue
        out = runs / system.replace(" ", "-").replace(",", "")
        record.part(
            system, lambda recipe=recipe, out=out: train_and_score(recipe, checked, out, device)
        )
        if device == "cuda":
            torch.cuda.empty_cache()


def paper(
    record: Record,
    recipe_name: str,
    data: Check,
    out: Path,
    device: str,
    tiny: bool,
    seconds: float,
) -> None:
    """Train the paper's network for the available time and score it.

    The weights are those with the best score on the validation cases. The log holds the Dice of the
    test cases at every validation. The best of these is what the paper's selection would report. An
    interrupted training is resumed with its original budget.
    """
    name = "the paper's network"
    record.expect([name])
    recipe = override(
        find_recipe(recipe_name), {"training.watch_test": True, "training.checkpoint_every": 2000}
    )
    earlier = out / "recipe.yaml"
    if tiny:
        recipe = small(
            recipe, {"segmenter.discriminator_channels": (8, 8), "segmenter.embedding": 16}
        )
    elif earlier.is_file():
        recipe = load_recipe(earlier)
    elif seconds <= 2 * _SCORING["paper"]:
        raise SystemExit(
            f"{seconds:.0f} seconds are too few: {_SCORING['paper']:.0f} are kept for the scores."
        )
    else:
        minutes = round((seconds - _SCORING["paper"]) / 60, 2)
        every = _PAPER_VALIDATES_EVERY.get(recipe_name.removesuffix("-paper"), 500)
        recipe = replace(
            recipe,
            training=replace(recipe.training, steps=None, minutes=minutes, validate_every=every),
        )
    kept = record.path.with_suffix(".safetensors")
    record.part(name, lambda: train_and_score(recipe, data, out, device, kept))


def systems(data: str, tiny: bool) -> Mapping[str, Recipe]:
    """The arms of the shipped experiment, and SegDiff at its published size, with equal time."""
    experiment = EXPERIMENTS[f"systems-{data}"]
    arms = {**experiment.arms, "segdiff": Arm("segdiff")}
    if tiny:
        arms = {name: arms[name] for name in ("cdal", "cdal-unet")}
    recipes = replace(experiment, arms=arms).recipes()
    if tiny:
        return {name: small(recipe) for name, recipe in recipes.items()}
    timed = {"steps": None, "minutes": _SYSTEM_SECONDS / 60}
    return {
        name: replace(recipe, training=replace(recipe.training, **timed))
        for name, recipe in recipes.items()
    }


def sizes(data: str, tiny: bool) -> Mapping[str, Recipe]:
    """The default recipe in all sizes, with equal time."""
    recipe = find_recipe(data)
    if tiny:
        return {"S": small(recipe)}
    timed = replace(recipe.training, steps=None, minutes=_SIZE_MINUTES)
    return {name: replace(sized(recipe, name), training=timed) for name in SIZES}


def train_and_score(
    recipe: Recipe, data: Check, out: Path, device: str, kept: Path | None = None
) -> dict[str, Any]:
    """Train, or resume an interrupted training, and score the test cases.

    Args:
        recipe: recipe to train.
        data: the data.
        out: run folder.
        device: `cuda` or `cpu`.
        kept: path of a copy of the model, made before the scores if it is small enough; else none.

    Returns:
        The cost of the training, the scores at every validation, the summary of the evaluation and
        its table of cases.
    """
    model = train(recipe, data, out, device)
    if kept is not None and model.stat().st_size <= LARGEST_RESULT:
        shutil.copyfile(model, kept)
    validations = [row for row in read_log(out) if "validation" in row or "test" in row]
    evaluation = evaluate(load(out, device=device), data.folder.root)
    write_result(evaluation, out / "evaluation")
    fields = ("step", "validation", "test")
    curve = [{key: row[key] for key in row if key.split("/")[0] in fields} for row in validations]
    watched = [row for row in curve if "test" in row]
    return {
        "training": kept_cost(out),
        "minutes": recipe.training.minutes,
        "model_bytes": model.stat().st_size,
        "summary": evaluation.summary(),
        "best on the test cases": max(watched, key=lambda row: row["test"]) if watched else None,
        "curve": curve,
        "cases": list(
            csv.DictReader(
                io.StringIO((out / "evaluation" / "cases.csv").read_text(encoding="utf-8"))
            )
        ),
    }
