"""The one training loop: turns, moving average, validation, checkpoint, exact resume.

Everything random is a function of (seed, step), so a run that was killed and resumed ends where one that was not would have ended.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning_fabric import Fabric

from cdal.datasets.cases import load_cases
from cdal.datasets.check import Check, check_folder
from cdal.datasets.partition import split_cases
from cdal.recipes.recipe import Recipe
from cdal.runtime.devices import find_device, repeatable, wants_bf16
from cdal.runtime.errors import UserError
from cdal.runtime.events import Report, silent
from cdal.runtime.files import sole_writer
from cdal.training.loop import Run
from cdal.training.run_folder import MODEL, check_same_recipe, claim, keep_split, kept_split


def train(
    recipe: Recipe,
    data: Path | str | Check,
    out: Path | str,
    device: str = "auto",
    report: Report = silent,
) -> Path:
    """Train; or go on with a training that was interrupted, where `out` holds one.

    Args:
        recipe: what to do.
        data: the data folder, or what `check_folder` made of it.
        out: the run folder.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: gets the progress: the cases read, then a `cdal.training.progress.Step` after each step.

    Returns:
        The model file: the weights that were best on the validation cases; the last ones where there are no such cases.

    Raises:
        UserError: the data, the folder, or the device cannot be used; a loss was not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the step was ended and a checkpoint written first.
    """
    out = Path(out)
    fabric = make_fabric(recipe, device)
    check_same_recipe(out, recipe)
    checked = data if isinstance(data, Check) else check_folder(data)
    checked.need_no_errors()
    folder = checked.folder
    split = kept_split(out, folder) or split_cases(folder, recipe.data)
    watched = split.test if recipe.training.watch_test else ()
    files = (*split.train, *split.validation, *watched)
    cases = load_cases(files, folder, recipe.data, report)
    digests = {fact.name: fact.digest for fact in checked.facts}
    with sole_writer(out), repeatable(fabric.device, gradients=True), _asked_to_stop() as asked:
        claim(out, recipe)
        keep_split(out, split)
        run = Run(recipe, folder, split, cases, digests, out, fabric)
        try:
            for step in run.steps():
                report(step)
                if asked() and step.done < 1:
                    run.checkpoint()
                    raise KeyboardInterrupt
        finally:
            run.makers.shutdown(wait=False, cancel_futures=True)
    model = out / MODEL
    if not model.is_file():
        raise UserError(f"{out} holds a finished run, but its {model.name} is gone. Take {out} away to train again.")
    return model


def make_fabric(recipe: Recipe, device: str) -> Fabric:
    """Device and precision, see `find_device` and `TrainingSettings.precision`."""
    chosen, precision = find_device(device), recipe.training.precision
    bf16 = wants_bf16(precision, chosen) and (precision == "bf16" or _bf16_is_sound(recipe, chosen))
    return Fabric(accelerator=chosen.type, devices=1, precision="bf16-mixed" if bf16 else "32-true")


def _bf16_is_sound(recipe: Recipe, device: torch.device) -> bool:
    """Whether gradients in bf16 can be trusted.

    On a CPU, PyTorch (2.13) reads memory that was never written in the weight gradient of a 3D convolution over 2 voxels or fewer.
    """
    if device.type != "cpu" or recipe.data.spatial_dims == 2:
        return True
    return recipe.segmenter.smallest_grid(recipe.data) > 2


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask; the loop answers at the end of its step. A second one stops at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield lambda: False
        return

    def note(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
