"""The command line: one function per verb, which parses and calls.

Exit codes: 0 done; 1 a bug; 2 the user's input; 3 done in part.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from cdal.cli.arguments import make_parser, read_numbers, split_fields, split_list, value_of
from cdal.runtime.errors import UserError
from cdal.runtime.memory import keep_freed_memory
from cdal.runtime.threads import respect_quota
from cdal.runtime.version import __version__

if TYPE_CHECKING:
    from cdal.datasets.check import Check
    from cdal.evaluation.comparison import Comparison
    from cdal.experiments.jobs import Job
    from cdal.recipes.recipe import Recipe


DONE, BAD_INPUT, IN_PART, INTERRUPTED = 0, 2, 3, 130
"""Exit codes; Python's own 1 is a bug."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    keep_freed_memory()
    respect_quota()
    words = list(sys.argv[1:] if arguments is None else arguments)
    words, fields = split_fields(words)
    options = make_parser(_VERBS).parse_args(words)
    if fields and options.verb not in _TAKE_FIELDS:
        print(f"cdal: recipe fields ({fields[0]}) can be given to {', '.join(_TAKE_FIELDS)} only.", file=sys.stderr)
        return BAD_INPUT
    for noisy in ("lightning", "lightning_fabric", "lightning.fabric", "lightning_fabric.utilities"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    chosen = options[options.verb]
    try:
        verb = _VERBS[options.verb]
        return verb(chosen, fields) if options.verb in _TAKE_FIELDS else verb(chosen)
    except UserError as error:
        print(f"cdal {options.verb}: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for the interpreter's last flush)
        return DONE
    except OSError as error:  # what no reader or writer has explained better
        print(f"cdal {options.verb}: {error}. Is the disk full, or a folder not readable or writable?", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        again = " The same command goes on from there." if options.verb in _TAKE_FIELDS else ""
        print(f"cdal {options.verb}: stopped.{again}", file=sys.stderr)
        return INTERRUPTED


def demo(options: Namespace) -> int:
    """Learn on phantoms, segment held-out ones, write a report."""
    from cdal.cli.console import training_bar
    from cdal.experiments.demo import run_demo

    with training_bar() as bar:
        outcome = run_demo(Path(options.out), options.minutes, options.seed, options.device, bar.loaded, bar.stepped)
    for line in outcome.lines():
        print(line)
    return DONE


def data(options: Namespace) -> int:
    """The public sets: list them, or turn one's files into a data folder; or draw phantoms."""
    from cdal.datasets.public import PUBLIC_SETS, prepare

    if options.action == "list":
        from cdal.cli.console import show_values

        fields = ("title", "about", "where", "licence", "citation")
        values = {name: {field: getattr(public, field) for field in fields} for name, public in PUBLIC_SETS.items()}
        print(json.dumps(values)) if options.list.json else show_values(values)
        return DONE
    if options.action == "phantoms":
        from cdal.datasets.phantoms import write_phantoms

        if options.phantoms.count < 1:
            raise UserError(f"--count must be 1 or more; it is {options.phantoms.count}.")
        print(write_phantoms(Path(options.phantoms.target), options.phantoms.count, options.phantoms.seed))
        return DONE
    from cdal.cli.console import counting_bar

    chosen = options.prepare
    with counting_bar("preparing") as count:
        prepared = prepare(chosen.name, chosen.source, chosen.target, count)
    for file, reason in prepared.left_out.items():
        print(f"left out: {file}: {reason}", file=sys.stderr)
    print(f"{prepared.cases} of {prepared.complete} cases in {chosen.target}, {len(prepared.left_out)} files left out")
    for note in prepared.notes:
        print(note)
    return DONE


def check(options: Namespace) -> int:
    """What is wrong with a data folder, case by case, and the remedy."""
    from cdal.cli.console import counting_bar, show_check
    from cdal.datasets.check import check_folder
    from cdal.datasets.contact_sheet import write_contact_sheet

    with counting_bar("checking") as count:
        checked = check_folder(options.data, count)
    if options.sheet is not None:
        write_contact_sheet(Path(options.sheet), checked.folder, [finding.case for finding in checked.findings if finding.case])
    if options.json:
        print(json.dumps(checked.to_dict()))
    else:
        show_check(checked, everything=options.all)
    return BAD_INPUT if checked.errors else DONE


def train(options: Namespace, fields: Sequence[str]) -> int:
    """Train a recipe on a data folder; the same command again goes on where it stopped."""
    from cdal.cli.console import show_findings, training_bar
    from cdal.recipes.recipe import to_yaml
    from cdal.runtime.devices import find_device
    from cdal.training.run_folder import check_same_recipe

    recipe, reasons, check = _recipe_of(options, fields)
    recipe = _changed(recipe, options, fields)
    if options.dry_run:
        print("".join(f"# {field}: {reason}\n" for field, reason in reasons.items()) + to_yaml(recipe), end="")
        return DONE
    for field, reason in reasons.items():
        print(f"{field}: {reason}", file=sys.stderr)
    if options.data is None or options.out is None:
        raise UserError("--data and --out are needed: the data folder, and a folder for the run.")
    find_device(options.device)  # what is quickly found is found before the data are read
    check_same_recipe(Path(options.out), recipe)
    check = check or _checked(options.data)
    show_findings(check)

    from cdal.training.train import train

    with training_bar() as bar:
        model = train(recipe, check, options.out, options.device, bar.stepped, bar.loaded)
    print(model)
    return DONE


def _recipe_of(options: Namespace, fields: Sequence[str]) -> tuple[Recipe, Mapping[str, str], Check | None]:
    """The recipe named; where it is derived from the data, also the reasons of its values, and the folder's check."""
    from cdal.recipes import DERIVED, find_recipe

    if options.recipe not in DERIVED or options.data is None:
        return find_recipe(options.recipe), {}, None
    from cdal.datasets.derive import folder_recipe

    check = _checked(options.data)
    derived = folder_recipe(check, value_of(fields, "--data.patient"))
    return derived.recipe, derived.reasons, check


def _checked(data: str) -> Check:
    from cdal.cli.console import counting_bar
    from cdal.datasets.check import check_folder

    with counting_bar("checking") as count:
        return check_folder(data, count)


def _changed(recipe: Recipe, options: Namespace, fields: Sequence[str]) -> Recipe:
    """The recipe with what the command line asks for."""
    from cdal.recipes import with_segmenter
    from cdal.recipes.recipe import override
    from cdal.segmenters.build import need_available

    if options.segmenter is not None:
        recipe = with_segmenter(recipe, options.segmenter)
        need_available(recipe.segmenter)
    recipe = override(recipe, fields)
    if options.fold is not None:
        recipe = replace(recipe, data=replace(recipe.data, fold=options.fold))
    changes: dict[str, Any] = {} if options.seed is None else {"seed": options.seed}
    if options.steps is not None or options.minutes is not None:
        changes |= {"steps": options.steps, "minutes": options.minutes}
    return replace(recipe, training=replace(recipe.training, **changes))


def predict(options: Namespace) -> int:
    """Segment files with a trained model."""
    from cdal.cli.console import counting_bar
    from cdal.inference.predict import predict

    with counting_bar("segmenting") as count:
        written = predict(
            options.model,
            options.inputs,
            options.out,
            options.votes,
            options.seed,
            options.save,
            options.timesteps,
            options.device,
            count,
            options.series,
            count.part,
            options.mirror,
            options.components,
            options.temperature,
        )
    for message in written.failed.values():
        print(f"cdal predict: {message}", file=sys.stderr)
    passed_over = f", {written.passed_over} earlier results passed over" if written.passed_over else ""
    print(f"{len(written.done)} segmented into {options.out}, {len(written.failed)} failed{passed_over}")
    if written.failed:
        return IN_PART if written.done else BAD_INPUT
    return DONE


def evaluate(options: Namespace) -> int:
    """Score a model on the cases of a data folder."""
    from cdal.cli.console import counting_bar, show_summary
    from cdal.evaluation.evaluate import evaluate

    with counting_bar("scoring") as count:
        evaluation = evaluate(
            options.model,
            options.data,
            options.fold,
            options.split,
            options.votes,
            options.timesteps,
            options.seed,
            options.out,
            options.device,
            count,
            options.scoring,
            options.mirror,
            options.components,
            options.temperature,
        )
    if options.json:
        print(json.dumps(evaluation.summary()))
    else:
        show_summary(evaluation.summary())
    for message in evaluation.failed.values():
        print(f"cdal evaluate: {message}", file=sys.stderr)
    return IN_PART if evaluation.failed else DONE


def compare(options: Namespace) -> int:
    """Hold several evaluations on the same cases against each other: a table, paired tests, pictures."""
    from cdal.evaluation.comparison import compare
    from cdal.evaluation.tables import write_comparison

    comparison = compare(options.results, options.reference, options.score, scoring=options.scoring)
    if options.out is not None:
        write_comparison(comparison, Path(options.out))
    return _show_comparison(comparison, options.json)


def crossval(options: Namespace, fields: Sequence[str]) -> int:
    """Train and evaluate several systems on several folds, whatever is missing, and compare them."""
    from cdal.experiments.crossval import crossval
    from cdal.experiments.jobs import plan, systems_of

    recipe, _, check = _recipe_of(options, fields)
    data = check or _checked(options.data)
    systems, out = systems_of(recipe, split_list(options.segmenter), fields), Path(options.out)
    folds = None if options.folds == "all" else read_numbers("--folds", options.folds)
    seeds = None if options.seeds is None else read_numbers("--seeds", options.seeds)
    if options.dry_run:
        return _show_jobs(plan(systems, data, out, folds, options.budget, seeds), options.json)
    comparison = crossval(systems, data, out, folds, options.budget, seeds, options.device, _say)
    return _show_comparison(comparison, options.json)


def experiment(options: Namespace, fields: Sequence[str]) -> int:
    """Run a shipped experiment, whatever of it is missing, and write its page."""
    from cdal.cli.console import show_values
    from cdal.experiments import EXPERIMENTS, find_experiment
    from cdal.experiments.experiment import run_experiment

    if options.name is None:
        show_values({name: one.question for name, one in EXPERIMENTS.items()})
        return DONE
    chosen = find_experiment(options.name)
    numbers = {name: read_numbers(f"--{name}", options[name]) for name in ("folds", "seeds") if options[name] is not None}
    changes: dict[str, Any] = {name: tuple(found) for name, found in numbers.items()}
    chosen = replace(chosen, **changes, budget=options.budget or chosen.budget, fields=(*chosen.fields, *fields))
    chosen.base()  # refuses unknown fields before the data are read
    if options.data is None and options.out is None:
        show_values(chosen.about())
        return DONE
    if options.data is None or options.out is None:
        raise UserError("--data and --out are needed: the data folder, and a folder for the runs and the page.")
    data, out, arms = _checked(options.data), Path(options.out), split_list(options.arms)
    if options.dry_run:
        return _show_jobs(chosen.jobs(data, out, arms), options.json)
    return _show_comparison(run_experiment(chosen, data, out, arms, options.device, _say), options.json)


def _say(line: str) -> None:
    """A line of progress."""
    print(line, file=sys.stderr, flush=True)


def _show_jobs(jobs: Sequence[Job], as_json: bool) -> int:
    """What is done of each training and evaluation, and what is missing. Returns the exit code."""
    from cdal.cli.console import show_values

    states = {job.name: job.state for job in jobs}
    if as_json:
        print(json.dumps(states))
    else:
        show_values(states)
        _say(f"{sum(state != 'scored' for state in states.values())} of {len(states)} to run")
    return DONE


def _show_comparison(comparison: Comparison, as_json: bool) -> int:
    """Scores, uncertainty, costs; or the numbers as JSON. Returns the exit code."""
    from cdal.cli.console import show_tables
    from cdal.evaluation.tables import COSTS, remarks, table, uncertainty_table

    if as_json:
        print(json.dumps(comparison.to_dict()))
    else:
        rows, sure = table(comparison), uncertainty_table(comparison)
        scores, costs = [row[:-COSTS] for row in rows], [row[:1] + row[-COSTS:] for row in rows]
        show_tables([part for part in (scores, sure, costs) if part], remarks(comparison))
    return DONE if len(comparison.finished) == len(comparison.competitors) else IN_PART


def export(options: Namespace) -> int:
    """Write a model as one graph for ONNX Runtime, OpenVINO or torch.export."""
    from cdal.inference.export import export

    print(export(options.model, options.to, options.out, options.timesteps))
    return DONE


def bench(options: Namespace) -> int:
    """Measure speed and cost again, as the documentation tells them."""
    import torch

    from cdal.experiments.speed.run import bench

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    report = bench(
        options.parts,
        split_list(options.systems),
        options.data,
        options.model,
        options.rounds,
        options.device,
        options.target,
        None if options.out is None else Path(options.out),
        lambda name: print(f"measuring: {name}", file=sys.stderr),
    )
    print(json.dumps(report.to_dict()) if options.json else report.markdown())
    return DONE


def info(options: Namespace) -> int:
    """What recipes, segmenters and models there are; or what one model is."""
    from cdal.inference.graph_engine import GRAPHS, read_description
    from cdal.recipes import DERIVED, RECIPES
    from cdal.recipes.protocols import PROTOCOLS
    from cdal.recipes.recipe import to_dict
    from cdal.recipes.systems import SYSTEMS
    from cdal.segmenters.model_header import find_model, read_header, shipped_models

    if options.model is not None:
        path = find_model(options.model)
        header = read_description(path).header if path.suffix in GRAPHS.values() else read_header(path)
        values = {"file": str(path), **dataclasses.asdict(header), "recipe": to_dict(header.recipe)}
    else:
        values = {
            "version": __version__,
            "recipes": {name: (make.__doc__ or "").splitlines()[0] for name, make in RECIPES.items()} | DERIVED,
            "segmenters": {name: system.about for name, system in SYSTEMS.items()},
            "scoring": {name: protocol.about for name, protocol in PROTOCOLS.items()},
            "models": {name: str(path) for name, path in shipped_models().items()},
        }
    if options.json:
        print(json.dumps(values))
    else:
        from cdal.cli.console import show_values

        show_values(values)
    return DONE


_VERBS: dict[str, Any] = {
    "demo": demo,
    "data": data,
    "check": check,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
    "compare": compare,
    "crossval": crossval,
    "experiment": experiment,
    "export": export,
    "bench": bench,
    "info": info,
}


_TAKE_FIELDS = ("train", "crossval", "experiment")
