"""What a training step costs, and how long a score takes to reach."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from cdal.experiments.speed.timing import Row
from cdal.recipes import find_recipe, with_segmenter
from cdal.runtime.cost import kept_cost
from cdal.runtime.events import Event
from cdal.training.progress import Step
from cdal.training.train import train

_CASES, _SHAPE = 8, (42, 58, 42)
SYSTEMS = ("cdal", "cdal-deterministic", "cdal-unet", "unet-3d", "dynunet")


def training(steps: int, device: str, systems: tuple[str, ...] = SYSTEMS) -> list[Row]:
    """Samples a second with the hippocampus recipe, and the share of a step that the players' turns take.

    The volumes are made up, of the hippocampus's size: neither changes the cost. The first steps are not counted. A turn is
    its passes, the clipping and the optimiser's step.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = _volumes(Path(folder) / "data")
        for name in systems:
            recipe = with_segmenter(find_recipe("hippocampus"), name)
            settings = replace(recipe.training, validate_every=10**9, checkpoint_every=10**9)
            costs: list[dict[str, Any]] = []
            for part, count in enumerate((steps // 4, steps)):  # a short one first, which warms up
                recipe = replace(recipe, training=replace(settings, steps=max(2, count)))
                train(recipe, data, Path(folder) / f"{name}-{part}", device)
                costs.append(kept_cost(Path(folder) / f"{name}-{part}"))
            cost = costs[-1]
            rows.append(
                {
                    "system": name,
                    "batch": recipe.training.batch,
                    "samples/s": cost["samples_a_second"],
                    "of turns": cost["share_of_turns"],
                    "of batches": cost["share_of_batches"],
                    "GiB": cost["peak_memory"],
                }
            )
    return rows


def time_to_dice(data: Path, target: float, minutes: float, device: str) -> Row:
    """Seconds until the default hippocampus recipe's mean validation Dice reaches a target, validation included.

    Args:
        data: the hippocampus data folder.
        target: a mean over the classes.
        minutes: the training's whole budget, which its learning rate follows.
        device: see `cdal.train`.
    """
    recipe = find_recipe("hippocampus")
    recipe = replace(recipe, training=replace(recipe.training, steps=None, minutes=minutes, validate_every=100))

    def watch(now: Event) -> None:
        if not isinstance(now, Step):
            return
        mean = sum(now.scores.values()) / len(now.scores) if now.scores else 0.0
        best.update({"mean validation Dice": max(best["mean validation Dice"], mean)})
        if mean >= target:
            raise _ReachedError(now)

    best: dict[str, Any] = {
        "target": target,
        "mean validation Dice": 0.0,
        "steps": None,
        "seconds": None,
        "budget minutes": minutes,
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(recipe, data, Path(folder) / "run", device, watch)
        except _ReachedError as reached:
            best |= {"steps": reached.now.step, "seconds": reached.now.done * minutes * 60}
    return best


class _ReachedError(Exception):
    def __init__(self, now: Step) -> None:
        super().__init__()
        self.now = now


def _volumes(folder: Path) -> Path:
    """Balls of two classes in noise."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    places = np.stack(np.meshgrid(*[np.arange(s) for s in _SHAPE], indexing="ij"))
    for case in range(_CASES):
        centre = np.array(_SHAPE) / 2 + rng.uniform(-4, 4, 3)
        away = np.linalg.norm(places - centre[:, None, None, None], axis=0)
        label = ((away < 12).astype(np.uint8) * (1 + (places[1] > centre[1]))).astype(np.uint8)
        image = (100 * label + rng.normal(0, 30, _SHAPE)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "images" / f"case{case}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labels" / f"case{case}.nii.gz")
    return folder
