"""Cost of a segmentation for every system, on a tile, a large picture, an X-ray and a volume.

Weights are random and images are noise, because neither changes the cost. A measurement that would
take hours is made on a part of the work and multiplied; the column `of` names the part.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from cdal.experiments.speed.machine import best_convolution, dtypes, name_of
from cdal.experiments.speed.timing import Row, gigaflops, interleaved, peak
from cdal.inference.decision import spread
from cdal.inference.torch_engine import TorchEngine
from cdal.inference.voting import draw_votes
from cdal.recipes import find_recipe, with_segmenter
from cdal.recipes.cdal import CDALSettings
from cdal.recipes.recipe import Recipe
from cdal.recipes.settings import Precision
from cdal.recipes.systems import default_settings
from cdal.segmenters.build import build_segmenter

VOTES = 5

_SLOW = ("segdiff", "cdal-paper")
_SLICES = 4


@dataclass(frozen=True)
class Task:
    """An image to segment.

    Attributes:
        about: description.
        recipe: name of the recipe for these data.
        paper: name of the recipe with the paper's network, at the paper's size for these data.
        shape: shape of the image on the network's grid, `[C, *S]`.
        classes: number of classes K, background included.
        part: shape of the part to measure if a system is slow, and the number of such parts in the
            whole image; `None` to measure the whole image.
    """

    about: str
    recipe: str
    paper: str
    shape: tuple[int, ...]
    classes: int
    part: tuple[tuple[int, ...], int] | None = None


TASKS = {
    "tile": Task("a 256 x 256 tile of colours", "monuseg", "monuseg-paper", (3, 256, 256), 2),
    "picture": Task(
        "a 1000 x 1000 MoNuSeg picture",
        "monuseg",
        "monuseg-paper",
        (3, 1000, 1000),
        2,
        ((3, 256, 256), 25),
    ),
    "x-ray": Task("a 512 x 512 chest X-ray", "cxr", "cxr-paper", (1, 512, 512), 2),
    "volume": Task(
        "a hippocampus volume of 40 x 56 x 40",
        "hippocampus",
        "hippocampus-paper",
        (1, 40, 56, 40),
        3,
    ),
}


@dataclass(frozen=True)
class Entry:
    """A measurement of one system on one task.

    Attributes:
        name: name of the system, with the variant if there are several.
        run: function that segments the measured part once.
        times: factor from the measured part to the whole.
        note: description of the measured part; empty for the whole.
        facts: precision, V, T (0 without diffusion) and the number of spatial axes.
        parameters: number of learned parameters.
    """

    name: str
    run: Callable[[], object]
    times: float
    note: str
    facts: dict[str, Any]
    parameters: int


def inference(
    task: str, systems: Sequence[str], machine: list[Row], rounds: int, device: str
) -> list[Row]:
    """Measure the systems on one task; each row has time, operations, memory and parameters.

    Systems that cannot segment the task are left out. `cdal` is measured with 1, 5 and 15 votes. If
    the device has native bf16, it is also measured with 5 votes in float32.

    Args:
        task: name of the task, a key of `TASKS`.
        systems: names of the systems.
        machine: rows of `cdal.experiments.speed.machine.machine`, the measure for GFLOP/s.
        rounds: number of rounds.
        device: `cpu` or `cuda`.
    """
    entries = [
        entry
        for name in systems
        if _sees(TASKS[task], name)
        for entry in _entries(TASKS[task], name, device)
    ]
    with torch.no_grad():
        taken = interleaved({entry.name: entry.run for entry in entries}, rounds, device=device)
        return [_row(entry, taken[entry.name], machine, device) for entry in entries]


def _row(entry: Entry, taken: float, machine: list[Row], device: str) -> Row:
    operations = gigaflops(entry.run)
    rate = operations / taken
    return {
        "system": entry.name,
        **{key: value for key, value in entry.facts.items() if key != "axes"},
        "seconds": taken * entry.times,
        "GFLOP": operations * entry.times,
        "GFLOP/s": rate,
        "of best convolution": rate
        / best_convolution(machine, entry.facts["precision"], entry.facts["axes"]),
        "GiB": peak(entry.run, device),
        "M parameters": entry.parameters / 1e6,
        "of": entry.note,
    }


def _sees(task: Task, name: str) -> bool:
    """Whether a system can segment the task.

    2D systems can segment volumes slice by slice, but 3D systems cannot segment pictures.
    """
    return len(task.shape) == 4 or 2 in default_settings(name).dims


def _entries(task: Task, name: str, device: str) -> list[Entry]:
    recipe = find_recipe(task.recipe)
    if recipe.data.resize is not None:  # the task has another size
        recipe = replace(recipe, data=replace(recipe.data, resize=None, size=task.shape[1:]))
    recipe = with_segmenter(recipe, name)
    if name == "cdal-paper":
        paper = find_recipe(task.paper).segmenter
        assert isinstance(paper, CDALSettings)
        # Two steps, as many as `cdal` takes.
        recipe = replace(recipe, segmenter=replace(paper, sampling_timesteps=2))
    if name == "cdal":
        variants: list[tuple[Precision, int]] = [("auto", votes) for votes in (1, VOTES, 15)]
        variants += [("32", VOTES)] if len(dtypes(device)) > 1 else []
        return [_entry(task, recipe, votes, device, precision) for precision, votes in variants]
    return [_entry(task, recipe, VOTES, device)]


def _entry(
    task: Task, recipe: Recipe, votes: int, device: str, precision: Precision = "auto"
) -> Entry:
    recipe = replace(recipe, training=replace(recipe.training, precision=precision))
    settings = recipe.segmenter
    facts = {
        "V": votes if settings.stochastic else 1,
        "T": settings.diffusion_steps or 0,
        "axes": recipe.data.spatial_dims,
    }
    name = settings.name
    if name == "cdal":
        name = f"cdal, {votes} vote{'s' if votes > 1 else ''}" + (
            ", float32" if precision == "32" else ""
        )
    part = _part(task, recipe, votes) if name in _SLOW else _Part(recipe, task.shape, votes)
    torch.manual_seed(0)
    segmenter = build_segmenter(part.recipe, part.shape[0], task.classes).to(device).eval()
    engine = TorchEngine(segmenter, part.recipe)
    image = np.random.default_rng(0).normal(size=part.shape).astype(np.float32)
    run = functools.partial(segment, engine, image, part.recipe, part.votes)
    dtype = torch.bfloat16 if engine.bf16 else torch.float32
    return Entry(
        name,
        run,
        part.times,
        ", ".join(part.notes),
        {"precision": name_of(dtype), **facts},
        engine.parameters,
    )


class _Part(NamedTuple):
    """The measured part of a segmentation.

    Attributes:
        recipe: recipe to measure.
        shape: shape of the image, `[C, *S]`.
        votes: number of votes.
        times: factor from the part to the whole.
        notes: descriptions of the reductions; empty for the whole.
    """

    recipe: Recipe
    shape: tuple[int, ...]
    votes: int
    times: float = 1.0
    notes: tuple[str, ...] = ()


def _part(task: Task, recipe: Recipe, votes: int) -> _Part:
    """The part to measure of a system that would take minutes.

    It has one vote, one of SegDiff's hundred steps, one window, and a few slices.
    """
    part = _Part(recipe, task.shape, 1, votes, ("one vote",))
    if recipe.segmenter.name == "segdiff":
        one_step = replace(recipe.segmenter, sampling_timesteps=1)  # type: ignore[call-arg]
        steps = recipe.segmenter.diffusion_steps or 1
        part = part._replace(
            recipe=replace(recipe, segmenter=one_step),
            times=part.times * steps,
            notes=(*part.notes, "one step"),
        )
    if task.part is not None:
        shape, count = task.part
        part = part._replace(
            shape=shape, times=part.times * count, notes=(*part.notes, "one window")
        )
    if recipe.data.spatial_dims < len(part.shape) - 1:
        share = part.shape[-1] / _SLICES
        part = part._replace(
            shape=(*part.shape[:-1], _SLICES),
            times=part.times * share,
            notes=(*part.notes, f"{_SLICES} slices"),
        )
    return part


def segment(
    engine: TorchEngine, image: np.ndarray, recipe: Recipe, votes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The computation of a prediction on the network's grid: votes, their mean and their spread.

    Returns:
        Mean probability `[K, *S]` and spread `[*S]`.
    """
    drawn = draw_votes(engine, image, recipe, votes, engine.generator(0))
    return drawn.mean(axis=0), spread(drawn)
