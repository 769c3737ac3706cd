"""The steps that train: the paper's network, all systems with the same seconds, the default recipe with more of everything."""

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
from plan import KEPT, LARGEST_RESULT, PACKED
from record import Record

from cdal.data.check import Check, check_folder
from cdal.evaluation import evaluate
from cdal.experiments import EXPERIMENTS
from cdal.experiments.experiment import Arm
from cdal.recipe import Recipe, override
from cdal.recipes import find_recipe
from cdal.run_folder import kept_cost, read_log
from cdal.training import train

_SCORING = {"paper": 60.0, "systems": 20.0, "default": 20.0}
"""Seconds that are kept for the test cases after a training."""

_LONGER = {
    "as it is": (),
    "three times as long": ("--training.steps=18000",),
    "twice as wide": ("--segmenter.channels=[32,64,128,256]", "--segmenter.denoiser_channels=64"),
    "twice as wide, three times as long": (
        "--segmenter.channels=[32,64,128,256]",
        "--segmenter.denoiser_channels=64",
        "--training.steps=18000",
    ),
    "twice as wide, batch of 8": ("--segmenter.channels=[32,64,128,256]", "--segmenter.denoiser_channels=64", "--training.batch=8"),
}
"""What is changed of the default recipe. Each is trained to its end, or not begun: half a schedule says nothing."""

_SYSTEM_SECONDS = 60.0
"""Of training for each system."""

_TINY = (
    "--training.steps=2",
    "--training.minutes=null",
    "--training.validate_every=1",
    "--training.precision=32",
    "--segmenter.channels=[8,8,8]",
)


def small(recipe: Recipe, *fields: str) -> Recipe:
    """The recipe as a rehearsal has it: two steps of a small network, on small pictures where it sees pictures."""
    pictures = (
        ["--data.resize=[32,32]", "--data.size=[16,16]", "--data.shift=1"] if recipe.data.resize or recipe.name == "monuseg" else []
    )
    return override(recipe, [*_TINY, *pictures, *fields])


def run(record: Record, name: str, device: str, tiny: bool, deadline: float) -> None:
    """Run a step by its name, `KIND-SET`."""
    kind, _, data = name.partition("-")
    folder = PACKED / (data if data in EVERY_SET else "hippocampus")
    began = time.monotonic()
    checked = check_folder(folder)
    print(f"data checked in {time.monotonic() - began:.0f} s", flush=True)
    if kind == "paper":
        paper(record, f"{data}-paper", checked, device, tiny, deadline)
        return
    recipes = longer(tiny) if kind == "default" else systems(data, tiny)
    for system, recipe in recipes.items():
        needed = _SYSTEM_SECONDS if recipe.training.minutes else 0.0
        if system not in record.content["parts"] and time.monotonic() + needed + _SCORING[kind] > deadline and not tiny:
            print(f"[{system}] no time left", flush=True)
            continue
        run_folder = KEPT / "runs" / name / system.replace(" ", "-")
        record.part(system, lambda recipe=recipe, out=run_folder: train_and_score(recipe, checked, out, device))
        if device == "cuda":
            torch.cuda.empty_cache()


EVERY_SET = ("hippocampus", "cxr", "monuseg")


def paper(record: Record, recipe_name: str, data: Check, device: str, tiny: bool, deadline: float) -> None:
    """Train the paper's network for the seconds there are; score the weights that were best on the validation cases.

    The log holds the Dice of the test cases at every validation: the best of these is what the paper's selection would report.
    """
    minutes = (deadline - time.monotonic() - _SCORING["paper"]) / 60
    recipe = override(find_recipe(recipe_name), ["--training.watch_test=true", "--training.checkpoint_every=2000"])
    settings = replace(recipe.training, steps=None, minutes=minutes, validate_every=500)
    recipe = replace(recipe, training=settings)
    if tiny:
        recipe = small(recipe, "--segmenter.discriminator_channels=[8,8]", "--segmenter.embedding=16")
    out = KEPT / "runs" / recipe_name
    record.part("the paper's network", lambda: train_and_score(recipe, data, out, device))
    model = out / "model.safetensors"
    if model.is_file() and model.stat().st_size <= LARGEST_RESULT:
        shutil.copyfile(model, record.path.with_suffix(".safetensors"))


def systems(data: str, tiny: bool) -> Mapping[str, Recipe]:
    """The arms of the shipped experiment and SegDiff at its published size, each with the same seconds."""
    experiment = EXPERIMENTS[f"systems-{data}"]
    arms = {**experiment.arms, "segdiff": Arm("segdiff")}
    if tiny:
        arms = {name: arms[name] for name in ("cdal", "cdal-unet")}
    recipes = replace(experiment, arms=arms).recipes()
    if tiny:
        return {name: small(recipe) for name, recipe in recipes.items()}
    timed = {"steps": None, "minutes": _SYSTEM_SECONDS / 60}
    return {name: replace(recipe, training=replace(recipe.training, **timed)) for name, recipe in recipes.items()}


def longer(tiny: bool) -> Mapping[str, Recipe]:
    """The default recipe of the hippocampus with more of everything."""
    recipe = find_recipe("hippocampus")
    if tiny:
        return {"as it is": small(recipe)}
    return {name: override(recipe, fields) for name, fields in _LONGER.items()}


def train_and_score(recipe: Recipe, data: Check, out: Path, device: str) -> dict[str, Any]:
    """Train, or go on with a training that was stopped; score the test cases.

    Returns:
        What the training took, the validations' curve, `summary` and the table by case.
    """
    model = train(recipe, data, out, device)
    validations = [row for row in read_log(out) if "validation" in row or "test" in row]
    evaluation = evaluate(out, data.folder.root, device=device, out=out / "evaluation")
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
        "cases": list(csv.DictReader(io.StringIO((out / "evaluation" / "cases.csv").read_text(encoding="utf-8")))),
    }
