"""Train a recipe on a data folder.

All random numbers are a function of (seed, step). A run that was killed and resumed therefore gives
the same result as a run without interruption.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from lightning_fabric import Fabric

from cdal.datasets.cache import Cases, open_cases
from cdal.datasets.check import Check, check_folder
from cdal.datasets.check_tables import split_findings
from cdal.datasets.layout import DataFolder
from cdal.datasets.partition import Split, split_cases
from cdal.recipes.recipe import Recipe
from cdal.runtime.cost import kept_cost
from cdal.runtime.devices import repeatable
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.execution.ranks import any_of
from cdal.runtime.files import sole_writer
from cdal.segmenters.model_header import CHECKPOINT, MODEL
from cdal.segmenters.trust import trust_own_network
from cdal.training.devices import number_of_devices, together
from cdal.training.loop import Run
from cdal.training.run_folder import check_same_run, claim, keep_split, kept_split
from cdal.training.start import Start, find_start

_CASES = "cases"
"""Name of the folder of decoded cases in the run folder, while it is needed."""


def train(
    recipe: Recipe,
    data: Path | str | Check,
    out: Path | str,
    device: str = "auto",
    report: Report = silent,
    start: Path | str | Start | None = None,
    parts: Split | None = None,
    devices: int | str | None = None,
    nodes: int | None = None,
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
        devices: devices of each node, a number or `auto`. For several, torchrun or Slurm must have
            started this program once for each; the command line starts itself.
        nodes: number of nodes. `None` for devices and nodes: as torchrun has started, else one.

    Returns:
        Path of the model file. It holds the weights that were best on the validation cases, or the
        last weights if there are no validation cases.

    Raises:
        UserError: the data, the run folder, the devices or the model to start from cannot be used,
            a loss is not finite, or a process that trains with this one is lost.
        KeyboardInterrupt: Ctrl-C or SIGTERM was received. The current step was finished and a
            checkpoint written first.
    """
    each, of_nodes = number_of_devices(devices, nodes, device)
    with together(recipe, device, each, of_nodes, Path(out) / CHECKPOINT) as fabric:
        report = report if fabric.is_global_zero else silent  # rank 0 alone talks
        return _train(recipe, data, Path(out), fabric, report, start, parts)


def _train(
    recipe: Recipe,
    data: Path | str | Check,
    out: Path,
    fabric: Fabric,
    report: Report,
    start: Path | str | Start | None,
    parts: Split | None,
) -> Path:
    """`train`, on the device and the rank of a fabric."""
    for part in recipe.segmenter.parts:
        trust_own_network(part.name)  # whoever trains a network has named it
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
    digests = {fact.name: fact.digest for fact in checked.facts}
    with (
        sole_writer(out) if fabric.is_global_zero else nullcontext(),
        _told_of_cases(out / _CASES, report),
    ):
        cases = _cases(recipe, folder, split, out, fabric, report)
        with repeatable(fabric.device, gradients=True), _stop_requests() as stop_requested:

            def calibrating(event: Event) -> None:
                report(event)
                if stop_requested():
                    raise KeyboardInterrupt

            if fabric.is_global_zero:
                claim(out, recipe, start)
                keep_split(out, split)
            run = Run(recipe, folder, split, cases, digests, out, fabric, calibrating, start)
            finished = bool(kept_cost(out))
            _take_steps(run, stop_requested, report)
            if finished and run.state.step == run.first:
                report(Event("training", message=f"the run in {out} was finished already"))
            if fabric.is_global_zero:
                shutil.rmtree(out / _CASES, ignore_errors=True)
                run.finish()
    model = out / MODEL
    if not model.is_file():
        raise UserError(
            f"{out} holds a finished run, but its {model.name} is gone. Delete {out} to train "
            "again."
        )
    return model


@contextmanager
def _told_of_cases(place: Path, report: Report) -> Iterator[None]:
    """Say so if a training that has not finished leaves images of patients in its run folder."""
    try:
        yield
    except BaseException:
        if place.is_dir():
            report(
                Event(
                    "training",
                    message=f"{place} holds the decoded images of the cases until the training is "
                    "finished. If you do not go on with it, delete this folder.",
                )
            )
        raise


def _cases(
    recipe: Recipe, folder: DataFolder, split: Split, out: Path, fabric: Fabric, report: Report
) -> Cases:
    """The cases that a training looks at."""
    watched = split.test if recipe.training.watch_test else ()
    files = (*split.train, *split.validation, *watched)
    share = fabric.global_rank / fabric.world_size
    return open_cases(
        files, folder, recipe.data, recipe.training.cache, out / _CASES, report, share
    )


def _take_steps(run: Run, stop_requested: Callable[[], bool], report: Report) -> None:
    """Take all steps of a run, or those until any rank is asked to stop."""
    device = run.fabric.device
    try:
        for step in run.steps():
            report(step)
            if any_of(stop_requested(), device) and step.done < 1:
                run.checkpoint()
                raise KeyboardInterrupt
    finally:
        run.makers.shutdown(wait=run.fabric.world_size > 1, cancel_futures=True)
    any_of(False, device)  # wait until no rank needs the cases any more


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
