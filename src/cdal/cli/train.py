"""`cdal train`: Train a recipe on a data folder; the same command resumes an interrupted run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import plain, tell
from cdal.cli.recipes import checked, recipe_of
from cdal.cli.size import Chosen, choose_size, cost_note, need_places
from cdal.cli.words import DATA, DONE, FIELDS, INTERRUPTED, RECIPE, add_device, add_size
from cdal.runtime.errors import UserError
from cdal.runtime.execution.launch import copies, place

if TYPE_CHECKING:
    from cdal.datasets.check import Check
    from cdal.recipes.recipe import Recipe
    from cdal.runtime.events import Event
    from cdal.training.reviewed import Corrections
    from cdal.training.start import Start


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("recipe", type=str, help=RECIPE)
    parser.add_argument("--data", type=str | None, help=DATA)
    parser.add_argument(
        "--out", type=str | None, help="Run folder. An unfinished run in it is resumed."
    )
    parser.add_argument(
        "--from",
        type=str | None,
        help="Model whose weights to start from (a file, a run folder, a shipped name); with the "
        "recipe `folder`, its recipe too.",
    )
    parser.add_argument(
        "--reviewed",
        action="store_true",
        help="DATA is a folder of results: train the model of --from on its reviewed cases (recipe "
        "`folder`).",
    )
    parser.add_argument(
        "--fold",
        type=int | None,
        help="Number k of the fold; part k of the recipe's partition is for the test.",
    )
    parser.add_argument(
        "--segmenter",
        type=str | None,
        help="Name of a system (cdal info), or the class of your own network.",
    )
    add_size(parser, "; auto: the largest that fits into the memory and the budget")
    parser.add_argument("--steps", type=int | None, help="Number of optimisation steps.")
    parser.add_argument(
        "--minutes",
        type=float | None,
        help="Wall-clock budget of the training in minutes; warns if others had the processor.",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="Print the resolved recipe and train nothing; with --size, also what it would cost.",
    )
    parser.add_argument("--seed", type=int | None, help="Random seed.")
    add_device(parser)
    parser.add_argument(
        "--devices",
        type=str | None,
        help="Devices of this machine to train on together, each with a process: a number, or "
        "auto for all GPUs (default: 1, or as torchrun has started).",
    )
    parser.add_argument(
        "--nodes", type=int | None, help="Machines to train on together, each with --devices."
    )
    parser.epilog = FIELDS


def run(options: Namespace, fields: Mapping[str, str]) -> int:
    """Run the verb and return the exit code. Of several ranks the first alone talks."""
    rank = _rank(options)
    if rank == 0:
        return _run(options, fields)
    try:
        with (
            Path(os.devnull).open("w") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            return _run(options, fields)
    except UserError as error:
        raise UserError(f"rank {rank}: {error}") from error
    except KeyboardInterrupt:
        return INTERRUPTED


def after_stop(options: Namespace) -> str:
    """What the same command does after Ctrl-C, in a sentence; empty if it wrote nothing."""
    # Not from a module with PyTorch, whose import may have been what was stopped.
    from cdal.segmenters.model_header import CHECKPOINT, MODEL

    if options.out is None or options.dry_run:
        return ""
    begun = (Path(options.out) / CHECKPOINT).is_file()
    if begun and options.get("took_steps"):
        return "The same command resumes it."
    if begun or (Path(options.out) / MODEL).is_file():
        return (
            f"{options.out} holds an earlier run. The same command goes on with it if its settings "
            "and data are the same."
        )
    return "There was no checkpoint yet: the same command begins again."


def _rank(options: Namespace) -> int:
    """The number of this process among those that train together."""
    found = place()
    asked = options.devices is not None or options.nodes is not None
    # Slurm may start trainings that have nothing to do with each other.
    return found.rank if found and (asked or found.launcher == "torchrun") else 0


def _run(options: Namespace, fields: Mapping[str, str]) -> int:
    from cdal.cli.console import progress_bar, show_findings
    from cdal.recipes.recipe import to_yaml
    from cdal.recipes.sizes import need_size
    from cdal.training.run_folder import check_same_run
    from cdal.training.start import find_start

    start = None if options["from"] is None else find_start(options["from"])
    corrections = _corrections(options, fields, start) if options.reviewed else None
    check: Check | None
    chosen = Chosen()
    if corrections:
        derived, check = corrections.derived, corrections.check
        named, reasons = derived.recipe, derived.reasons
    else:
        chosen = (
            Chosen(options.size)
            if start
            else choose_size(options, fields, lambda named: _changed(named, options, fields))
        )
        named, reasons, check = recipe_of(options, fields, start, chosen.size, chosen.check)
    recipe = _changed(named, options, fields)
    if options.size is not None:
        need_size(recipe)
    reasons = _still_true(reasons, named, recipe)
    if options.dry_run:
        notes = [f"# {field}: {plain(reason)}\n" for field, reason in reasons.items()]
        if options.size is not None:
            notes.append(cost_note(recipe, chosen._replace(check=check), options))
        print("".join(notes) + to_yaml(recipe), end="")
        return DONE
    for field, reason in reasons.items():
        tell(f"{field}: {reason}", error=True)
    need_places(options)
    devices, nodes = _devices(options, recipe)  # fails early, before the data are read
    check_same_run(Path(options.out), recipe, start)
    if start:
        start.need_fitting(recipe)
    check = check or checked(options.data)
    show_findings(check)

    from cdal.runtime.execution.ranks import joined
    from cdal.training.progress import Step
    from cdal.training.reviewed import train_on_reviews
    from cdal.training.train import train

    out, device, compared = Path(options.out), options.device, None
    with copies(devices, nodes, joined), progress_bar() as shown:

        def report(event: Event) -> None:
            options.took_steps = options.get("took_steps") or isinstance(event, Step)
            shown(event)

        if corrections and start:
            model, compared = train_on_reviews(recipe, corrections, out, start, device, report)
        else:
            model = train(recipe, check, out, device, report, start, None, devices, nodes)
    for line in compared.lines() if compared else ():
        tell(line)
    tell(model)
    return DONE


def _devices(options: Namespace, recipe: Recipe) -> tuple[int, int]:
    """Devices of each node, and nodes.

    Raises:
        UserError: they are not there, or the training cannot be shared among them.
    """
    from cdal.training.devices import need_slices, number_of_devices

    devices, nodes = number_of_devices(options.devices, options.nodes, options.device)
    if devices * nodes > 1 and options.reviewed:
        raise UserError("--reviewed trains on one device. Leave out --devices and --nodes.")
    need_slices(recipe, devices * nodes)
    return devices, nodes


def _corrections(options: Namespace, fields: Mapping[str, str], start: Start | None) -> Corrections:
    """The reviewed cases of a folder of results.

    Raises:
        UserError: an option is missing or cannot be used with them, or there are none.
    """
    from cdal.cli.console import progress_bar
    from cdal.training.reviewed import read_corrections

    if options.recipe != "folder" or start is None or options.data is None:
        raise UserError(
            "--reviewed trains a model further on its own corrected results: cdal train folder "
            "--data RESULTS --reviewed --from MODEL --out RUN."
        )
    if options.size is not None:
        raise UserError("--size: a model that is trained further keeps its size. Leave it out.")
    if options.fold is not None:
        raise UserError("--fold: reviewed cases have no folds. Leave it out.")
    with progress_bar() as report:
        return read_corrections(Path(options.data), start, fields.get("data.patient"), report)


def _still_true(reasons: Mapping[str, str], named: Recipe, recipe: Recipe) -> dict[str, str]:
    """The reasons for values that the command line did not change."""
    from cdal.recipes.recipe import to_dict

    before, after = to_dict(named), to_dict(recipe)

    def value(recipe: dict[str, Any], field: str) -> Any:
        part, _, name = field.partition(".")
        return recipe[part].get(name) if name else None

    return {
        field: reason
        for field, reason in reasons.items()
        if value(before, field) == value(after, field)
    }


def _changed(recipe: Recipe, options: Namespace, fields: Mapping[str, str]) -> Recipe:
    """The recipe with the changes that the command line requests."""
    from cdal.recipes import with_segmenter
    from cdal.recipes.recipe import override
    from cdal.segmenters.build import need_available

    if options.segmenter is not None:
        recipe = with_segmenter(recipe, options.segmenter)
        need_available(recipe.segmenter)
    recipe = override(recipe, fields, "the command line")
    if options.fold is not None:
        recipe = override(recipe, {"data.fold": options.fold})
    changes: dict[str, Any] = {} if options.seed is None else {"training.seed": options.seed}
    if options.steps is not None or options.minutes is not None:
        changes |= {"training.steps": options.steps, "training.minutes": options.minutes}
    return override(recipe, changes)
