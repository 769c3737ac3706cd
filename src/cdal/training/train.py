"""Train a recipe on a data folder.

All random numbers are a function of (seed, step). A run that was killed and resumed therefore gives
the same result as a run without interruption.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning_fabric import Fabric

from cdal.datasets.cases import load_cases
from cdal.datasets.check import Check, check_folder
from cdal.datasets.check_tables import split_findings
from cdal.datasets.partition import Split, split_cases
from cdal.recipes.recipe import Recipe
from cdal.runtime.devices import find_device, repeatable, wants_bf16
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import sole_writer
from cdal.segmenters.trust import trust_own_network
from cdal.training.loop import Run
from cdal.training.run_folder import MODEL, check_same_run, claim, keep_split, kept_split
from cdal.training.start import Start, find_start


def train(
    recipe: Recipe,
    data: Path | str | Check,
    out: Path | str,
    device: str = "auto",
    report: Report = silent,
    start: Path | str | Start | None = None,
    parts: Split | None = None,
) -> Path:
    """Train a recipe, or resume the interrupted run in `out`.

    Args:
        recipe: recipe to train.
        data: data folder, or the result of `check_folder`.
        out: run folder.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: function called with the progress: the cases read, then a
            `cdal.training.progress.Step` after each step.
        start: name or path of a model whose weights to start from, or the model; `None` for random
            weights. See `cdal.training.start`.
        parts: cases of each part; `None` for those of the recipe's partition.

    Returns:
        Path of the model file. It holds the weights that were best on the validation cases, or the
        last weights if there are no validation cases.

    Raises:
        UserError: the data, the run folder, the device or the model to start from cannot be used,
            or a loss is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM was received. The current step was finished and a
            checkpoint written first.
    """
    out = Path(out)
    for part in recipe.segmenter.parts:
        trust_own_network(part.name)  # whoever trains a network has named it
    fabric = make_fabric(recipe, device)
    start = find_start(start) if isinstance(start, (str, os.PathLike)) else start
    check_same_run(out, recipe, start)
    if start:
        start.need_fitting(recipe)
    checked = data if isinstance(data, Check) else check_folder(data)
    checked.need_no_errors()
    checked = start.named(checked, report) if start else checked
    folder = checked.folder
    split = kept_split(out, folder) or parts or split_cases(folder, recipe.data)
    for doubt in _doubts(checked, split, recipe, start):
        report(Event("training", message=f"warning: {doubt}"))
    watched = split.test if recipe.training.watch_test else ()
    files = (*split.train, *split.validation, *watched)
    cases = load_cases(files, folder, recipe.data, report)
    digests = {fact.name: fact.digest for fact in checked.facts}
    with (
        sole_writer(out),
        repeatable(fabric.device, gradients=True),
        _stop_requests() as stop_requested,
    ):

        def calibrating(event: Event) -> None:
            report(event)
            if stop_requested():
                raise KeyboardInterrupt

        claim(out, recipe, start)
        keep_split(out, split)
        run = Run(recipe, folder, split, cases, digests, out, fabric, calibrating, start)
        try:
            for step in run.steps():
                report(step)
                if stop_requested() and step.done < 1:
                    run.checkpoint()
                    raise KeyboardInterrupt
        finally:
            run.makers.shutdown(wait=False, cancel_futures=True)
    model = out / MODEL
    if not model.is_file():
        raise UserError(
            f"{out} holds a finished run, but its {model.name} is gone. Delete {out} to train "
            "again."
        )
    return model


def _doubts(checked: Check, split: Split, recipe: Recipe, start: Start | None) -> Iterator[str]:
    """What the user should know of the parts, and of the model to start from.

    Raises:
        UserError: nothing can be learned from the parts.
    """
    for finding in split_findings(checked.folder, checked.facts, split, recipe.data):
        if finding.level == "error":
            raise UserError(f"{checked.folder.root}: {finding.message}")
        yield finding.message
    if start:
        digests = {fact.name: fact.digest for fact in checked.facts}
        yield from start.doubts(recipe, split.names()["test"], digests)


def make_fabric(recipe: Recipe, device: str) -> Fabric:
    """Choose device and precision, see `find_device` and `TrainingSettings.precision`."""
    chosen, precision = find_device(device), recipe.training.precision
    bf16 = wants_bf16(precision, chosen) and (precision == "bf16" or _bf16_is_sound(recipe, chosen))
    return Fabric(accelerator=chosen.type, devices=1, precision="bf16-mixed" if bf16 else "32-true")


def _bf16_is_sound(recipe: Recipe, device: torch.device) -> bool:
    """Whether gradients in bf16 can be trusted.

    On a CPU, PyTorch (2.13) reads uninitialised memory in the weight gradient of a 3D convolution
    over 2 voxels or fewer.
    """
    if device.type != "cpu" or recipe.data.spatial_dims == 2:
        return True
    return recipe.segmenter.smallest_grid(recipe.data) > 2


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and SIGTERM request a stop at the end of the current step.

    The context gives a function that says whether a stop is requested. A second signal stops at
    once.
    """
    received: list[int] = []
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # signals belong to the main thread
        yield lambda: False
        return

    def handle(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
