"""`cdal crossval`: Train, evaluate and compare several systems on several folds.

Only missing trainings and evaluations are run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.recipes import checked, recipe_of, say, show_comparison, show_jobs
from cdal.cli.size import cost_of
from cdal.cli.words import (
    DATA,
    FIELDS,
    RECIPE,
    add_device,
    add_dry_run,
    add_json,
    add_size,
    add_workers,
    executor_of,
    read_numbers,
    split_list,
)


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("recipe", type=str, help=RECIPE)
    parser.add_argument("--data", type=str, required=True, help=DATA)
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        help="Folder for the runs and the comparison. Unfinished runs in it are resumed.",
    )
    parser.add_argument(
        "--segmenter",
        type=str,
        default="cdal",
        help="Systems, separated by commas; the first is the reference.",
    )
    parser.add_argument(
        "--folds", type=str, default="all", help="all, or numbers of folds, separated by commas."
    )
    parser.add_argument(
        "--budget",
        type=str | None,
        help="Budget of each training: 5min, 2h or 500steps (default: the recipe's).",
    )
    parser.add_argument(
        "--seeds",
        type=str | None,
        help=(
            "Random seeds, separated by commas; one training for each (default: the recipe's seed)."
        ),
    )
    add_size(parser)
    add_workers(parser, "Trainings that run at the same time, each with its part of the cores")
    add_dry_run(parser, "; with --size, also what a training of each system costs")
    add_device(parser)
    add_json(parser)
    parser.epilog = FIELDS


def run(options: Namespace, fields: Mapping[str, str]) -> int:
    """Run the verb and return the exit code."""
    from cdal.experiments.crossval import crossval
    from cdal.experiments.jobs import plan, systems_of

    recipe, _, check = recipe_of(options, fields, size=options.size)
    data = check or checked(options.data)
    systems, out = systems_of(recipe, split_list(options.segmenter), fields), Path(options.out)
    folds = None if options.folds == "all" else read_numbers("--folds", options.folds)
    seeds = None if options.seeds is None else read_numbers("--seeds", options.seeds)
    if options.dry_run:
        jobs = plan(systems, data, out, folds, options.budget, seeds)
        code = show_jobs(jobs, options.json)
        if options.size is not None:
            for name, recipe in {job.system: job.recipe for job in jobs}.items():
                cost = cost_of(recipe, data, options).about(recipe)
                tell(f"{name}, size {options.size.upper()}: {cost}", error=True)
        return code
    comparison = crossval(
        *(systems, data, out, folds, options.budget, seeds, options.device, say),
        executor=executor_of(options, ahead=1),
    )
    return show_comparison(comparison, options.json)
