"""Cost of a training step, and time to reach a score."""

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
    """Samples per second with the hippocampus recipe, and the share of time in the players' turns.

    A turn consists of the player's forward and backward passes, gradient clipping and the
    optimiser's step. The volumes are synthetic and have the size of the hippocampus, because their
    content does not change the cost. The first steps are not counted.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = _volumes(Path(folder) / "data")
        for name in systems:
            recipe = with_segmenter(find_recipe("hippocampus"), name)
            settings = replace(recipe.training, validate_every=10**9, checkpoint_every=10**9)
            costs: list[dict[str, Any]] = []
            for part, count in enumerate((steps // 4, steps)):  # the short one is a warm-up
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
    """Time until the mean validation Dice of the default hippocampus recipe reaches a target.

    The time is in seconds and includes the validations.

    Args:
        data: path of the hippocampus data folder.
        target: Dice to reach, as the mean over the classes.
        minutes: budget of the whole training in minutes, which sets the learning rate schedule.
        device: see `cdal.train`.
    """
    recipe = find_recipe("hippocampus")
    recipe = replace(
        recipe, training=replace(recipe.training, steps=None, minutes=minutes, validate_every=100)
    )

    def watch(event: Event) -> None:
        if not isinstance(event, Step):
            return
        mean = sum(event.scores.values()) / len(event.scores) if event.scores else 0.0
        row.update({"mean validation Dice": max(row["mean validation Dice"], mean)})
        if mean >= target:
            raise _ReachedError(event)

    row: dict[str, Any] = {
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
            row |= {"steps": reached.step.step, "seconds": reached.step.done * minutes * 60}
    return row


class _ReachedError(Exception):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step


def _volumes(folder: Path) -> Path:
    """Write volumes with a ball of two classes in noise."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    places = np.stack(np.meshgrid(*[np.arange(s) for s in _SHAPE], indexing="ij"))
    for case in range(_CASES):
        centre = np.array(_SHAPE) / 2 + rng.uniform(-4, 4, 3)
        distance = np.linalg.norm(places - centre[:, None, None, None], axis=0)
        label = ((distance < 12).astype(np.uint8) * (1 + (places[1] > centre[1]))).astype(np.uint8)
        image = (100 * label + rng.normal(0, 30, _SHAPE)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "images" / f"case{case}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labels" / f"case{case}.nii.gz")
    return folder
