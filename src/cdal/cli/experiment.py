"""`cdal experiment`: Run the missing parts of a shipped experiment and write its page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.recipes import checked, say, show_comparison, show_jobs
from cdal.cli.words import (
    DATA,
    DONE,
    FIELDS,
    IN_PART,
    add_device,
    add_dry_run,
    add_json,
    add_workers,
    executor_of,
    read_numbers,
    split_list,
)
from cdal.runtime.errors import UserError

if TYPE_CHECKING:
    from cdal.experiments.experiment import Experiment
    from cdal.experiments.ranking import Rounds


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument(
        "name",
        type=str | None,
        nargs="?",
        help=(
            "Name of a shipped experiment. Without --data and --out, its variants are listed; "
            "without a name, all experiments."
        ),
    )
    parser.add_argument("--data", type=str | None, help=DATA)
    parser.add_argument(
        "--out",
        type=str | None,
        help="Folder for the runs and the page, NAME.md. Unfinished runs in it are resumed.",
    )
    parser.add_argument(
        "--arms",
        type=str,
        default="",
        help=(
            "Variants (or ways of picking) to run besides the first, separated by commas (default: "
            "all of the experiment)."
        ),
    )
    parser.add_argument(
        "--folds",
        type=str | None,
        help="Numbers of folds, separated by commas (default: the experiment's).",
    )
    parser.add_argument(
        "--seeds",
        type=str | None,
        help="Random seeds, separated by commas (default: the experiment's).",
    )
    parser.add_argument(
        "--budget",
        type=str | None,
        help="Budget of each training: 5min, 2h or 500steps (default: the experiment's).",
    )
    add_workers(parser, "Trainings that run at the same time, each with its part of the cores")
    add_dry_run(parser)
    add_device(parser)
    add_json(parser)
    parser.epilog = FIELDS


def run(options: Namespace, fields: Mapping[str, str]) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import show_values
    from cdal.experiments import find_experiment, shipped
    from cdal.experiments.ranking import Rounds

    if options.name is None:
        show_values({name: experiment.question for name, experiment in shipped().items()})
        return DONE
    chosen = find_experiment(options.name)
    if isinstance(chosen, Rounds) and options.folds is not None:
        raise UserError(f"{chosen.name} has one fold: omit --folds.")
    if isinstance(chosen, Rounds) and (options.workers, options.engine) != (None, None):
        raise UserError(
            f"the trainings of {chosen.name} need each other's results, and run one after the "
            "other: omit --workers and --engine."
        )
    numbers = {
        name: read_numbers(f"--{name}", options[name])
        for name in ("folds", "seeds")
        if options[name] is not None
    }
    changes: dict[str, Any] = {name: tuple(values) for name, values in numbers.items()}
    chosen = replace(
        chosen,
        **changes,
        budget=options.budget or chosen.budget,
        fields={**chosen.fields, **fields},
    )
    chosen.base()  # refuses unknown fields before the data are read
    if options.data is None and options.out is None:
        show_values(chosen.about())
        return DONE
    if options.data is None or options.out is None:
        raise UserError(
            "--data and --out are needed: the data folder, and a folder for the runs and the page."
        )
    return _rounds(chosen, options) if isinstance(chosen, Rounds) else _compared(chosen, options)


def _compared(chosen: Experiment, options: Namespace) -> int:
    from cdal.experiments.experiment import run_experiment

    data, out, arms = checked(options.data), Path(options.out), split_list(options.arms)
    if options.dry_run:
        return show_jobs(chosen.jobs(data, out, arms), options.json)
    executor = executor_of(options, ahead=1)
    return show_comparison(
        run_experiment(chosen, data, out, arms, options.device, say, executor), options.json
    )


def _rounds(chosen: Rounds, options: Namespace) -> int:
    from cdal.cli.console import show_tables
    from cdal.experiments.curves_page import answers, curve_tables
    from cdal.experiments.rounds import run_rounds

    chosen = chosen.picked_by(split_list(options.arms))
    data, out = checked(options.data), Path(options.out)
    if options.dry_run:
        return show_jobs(chosen.jobs(out / chosen.name), options.json)
    curves = run_rounds(chosen, data, out, options.device, say)
    if options.json:
        print(json.dumps(curves.to_dict()))
    else:
        show_tables(list(curve_tables(curves).values()), [*answers(curves), *curves.failed])
    return IN_PART if curves.failed else DONE
