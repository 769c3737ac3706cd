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
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from cdal import __version__
from cdal.errors import UserError

if TYPE_CHECKING:
    from cdal.recipe import Recipe

DONE, BAD_INPUT, IN_PART, INTERRUPTED = 0, 2, 3, 130
"""Exit codes; Python's own 1 is a bug."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    words, fields = _split_fields(words)
    options = _parser().parse_args(words)
    if fields and options.verb != "train":
        print(f"cdal: recipe fields ({fields[0]}) can be given to train only.", file=sys.stderr)
        return BAD_INPUT
    for noisy in ("lightning", "lightning_fabric", "lightning.fabric", "lightning_fabric.utilities"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    chosen = options[options.verb]
    try:
        return _VERBS[options.verb](chosen, fields) if options.verb == "train" else _VERBS[options.verb](chosen)
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
        again = " The same command goes on from there." if options.verb == "train" else ""
        print(f"cdal {options.verb}: stopped.{again}", file=sys.stderr)
        return INTERRUPTED


def demo(options: Namespace) -> int:
    """Learn on phantoms, segment held-out ones, write a report."""
    from cdal.console import training_bar
    from cdal.demo import run_demo

    with training_bar() as bar:
        outcome = run_demo(Path(options.out), options.minutes, options.seed, options.device, bar.loaded, bar.stepped)
    for line in outcome.lines():
        print(line)
    return DONE


def data(options: Namespace) -> int:
    """The public sets: list them, or turn one's files into a data folder."""
    from cdal.data.public import PUBLIC_SETS, prepare

    if options.action == "list":
        from cdal.console import show_values

        fields = ("title", "about", "where", "licence", "citation")
        values = {name: {field: getattr(public, field) for field in fields} for name, public in PUBLIC_SETS.items()}
        print(json.dumps(values)) if options.list.json else show_values(values)
        return DONE
    from cdal.console import counting_bar

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
    from cdal.console import counting_bar, show_check
    from cdal.data.check import check_folder
    from cdal.data.contact_sheet import write_contact_sheet

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
    from cdal.console import counting_bar, show_findings, training_bar
    from cdal.data.check import Check, check_folder
    from cdal.devices import find_device
    from cdal.recipe import to_yaml
    from cdal.recipes import DERIVED, find_recipe
    from cdal.run_folder import check_same_recipe

    def checked() -> Check:
        with counting_bar("checking") as count:
            return check_folder(options.data, count)

    check: Check | None = None
    reasons: Mapping[str, str] = {}
    if options.recipe in DERIVED and options.data is not None:
        from cdal.recipes.folder import folder_recipe

        check = checked()
        derived = folder_recipe(check, _value_of(fields, "--data.patient"))
        recipe, reasons = derived.recipe, derived.reasons
    else:
        recipe = find_recipe(options.recipe)
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
    check = check or checked()
    show_findings(check)

    from cdal.training import train

    with training_bar() as bar:
        model = train(recipe, check, options.out, options.device, bar.stepped, bar.loaded)
    print(model)
    return DONE


def _value_of(fields: Sequence[str], name: str) -> str | None:
    """The value of a recipe field among `--part.field value` and `--part.field=value`, or none."""
    for i, field in enumerate(fields):
        if field == name:
            return fields[i + 1] if i + 1 < len(fields) else None
        if field.startswith(f"{name}="):
            return field.split("=", 1)[1]
    return None


def _changed(recipe: Recipe, options: Namespace, fields: Sequence[str]) -> Recipe:
    """The recipe with what the command line asks for."""
    from cdal.recipe import override
    from cdal.recipes import with_segmenter

    if options.segmenter is not None:
        recipe = with_segmenter(recipe, options.segmenter)
    recipe = override(recipe, fields)
    if options.fold is not None:
        recipe = replace(recipe, data=replace(recipe.data, fold=options.fold))
    changes: dict[str, Any] = {} if options.seed is None else {"seed": options.seed}
    if options.steps is not None or options.minutes is not None:
        changes |= {"steps": options.steps, "minutes": options.minutes}
    return replace(recipe, training=replace(recipe.training, **changes))


def predict(options: Namespace) -> int:
    """Segment files with a trained model."""
    from cdal.console import counting_bar
    from cdal.prediction import predict

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
    from cdal.console import counting_bar, show_summary
    from cdal.evaluation import evaluate

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
        )
    if options.json:
        print(json.dumps(evaluation.summary()))
    else:
        show_summary(evaluation.summary())
    for message in evaluation.failed.values():
        print(f"cdal evaluate: {message}", file=sys.stderr)
    return IN_PART if evaluation.failed else DONE


def info(options: Namespace) -> int:
    """What recipes, segmenters and models there are; or what one model is."""
    from cdal.model_file import find_model, read_header, shipped_models
    from cdal.protocols import PROTOCOLS
    from cdal.recipe import to_dict
    from cdal.recipes import DERIVED, RECIPES
    from cdal.systems import SYSTEMS

    if options.model is not None:
        path = find_model(options.model)
        header = read_header(path)
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
        from cdal.console import show_values

        show_values(values)
    return DONE


_VERBS: dict[str, Any] = {
    "demo": demo,
    "data": data,
    "check": check,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
    "info": info,
}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="cdal", description="Segment medical images by few-step diffusion, and say how sure it is.")
    parser.add_argument("--version", action="version", version=f"cdal {__version__}")
    verbs = parser.add_subcommands(dest="verb", title="verbs")

    verb = _verb(verbs, "demo", demo)
    verb.add_argument("--out", type=str, default="cdal-demo", help="folder for phantoms, run and report")
    verb.add_argument("--minutes", type=float, default=3.0, help="minutes of training")
    _common(verb)

    verb = _verb(verbs, "data", data)
    actions = verb.add_subcommands(dest="action", title="actions")
    action = ArgumentParser(description="The public sets: what they hold, where from, licence, citation.")
    action.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    actions.add_subcommand("list", action, help="where from, licence, citation")
    action = ArgumentParser(description="Turn a public set's files into a data folder.")
    action.add_argument("name", type=str, help="of the set (cdal data list)")
    action.add_argument("source", type=str, help="folder or archive with the owners' files; or the word download")
    action.add_argument("target", type=str, help="the data folder, which must not be there yet")
    actions.add_subcommand("prepare", action, help="owners' files to a data folder")

    verb = _verb(verbs, "check", check)
    verb.add_argument("data", type=str, help="data folder")
    verb.add_argument("--sheet", type=str | None, help="write a PNG of cases with the outlines of their masks")
    verb.add_argument("--all", action="store_true", help="show every finding, not only the first of each kind")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")

    verb = _verb(verbs, "train", train)
    verb.add_argument("recipe", type=str, help="a shipped recipe's name (cdal info), or a YAML file")
    verb.add_argument("--data", type=str | None, help="data folder: imagesTr and labelsTr, or images and labels")
    verb.add_argument("--out", type=str | None, help="run folder; a run that is there is gone on with")
    verb.add_argument("--fold", type=int | None, help="fold k of the recipe's partition; its part k is for the test")
    verb.add_argument("--segmenter", type=str | None, help="cdal, cdal-paper, or a baseline's name")
    verb.add_argument("--steps", type=int | None, help="optimisation steps")
    verb.add_argument("--minutes", type=float | None, help="minutes of training")
    verb.add_argument("--dry-run", action="store_true", help="print the resolved recipe and do nothing")
    verb.add_argument("--seed", type=int | None, help="of every random draw")
    verb.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")
    verb.epilog = "Any field of the recipe (--dry-run shows them): --training.batch 4, --data.size=[40,56,40], --segmenter.votes 15"

    verb = _verb(verbs, "predict", predict)
    verb.add_argument("model", type=str, help="a .safetensors file, a run folder, or a shipped model's name")
    verb.add_argument("inputs", type=str, nargs="+", help="files, folders of files, folders with a DICOM series")
    verb.add_argument("--out", type=str, required=True, help="folder for the results")
    verb.add_argument(
        "--save",
        type=str,
        nargs="+",
        default=["mask"],
        help="some of: mask probability uncertainty votes overlay instances geojson",
    )
    verb.add_argument("--series", type=str | None, help="number, description or UID of the DICOM series, where there are several")
    _sampling(verb)
    _common(verb)

    verb = _verb(verbs, "evaluate", evaluate)
    verb.add_argument("model", type=str, help="a .safetensors file, a run folder, or a shipped model's name")
    verb.add_argument("--data", type=str, required=True, help="data folder")
    verb.add_argument("--fold", type=int | None, help="fold k; the model's own if not given")
    verb.add_argument("--split", type=Literal["train", "validation", "test", "all"], default="test", help="which cases")
    verb.add_argument("--scoring", type=str, nargs="+", help="scoring protocols (cdal info); the recipe's if not given")
    verb.add_argument("--out", type=str | None, help="folder for the table by case and the summary")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    _sampling(verb)
    _common(verb)

    verb = _verb(verbs, "info", info)
    verb.add_argument("model", type=str | None, nargs="?", help="a .safetensors file, a run folder, or a shipped model's name")
    verb.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def _verb(verbs: Any, name: str, function: Any) -> ArgumentParser:
    verb = ArgumentParser(description=function.__doc__)
    verb.add_argument(
        "--config", action="config", help="a YAML file with any of these options (for fields of the recipe write a recipe)"
    )
    verbs.add_subcommand(name, verb, help=function.__doc__)
    return verb


def _sampling(verb: ArgumentParser) -> None:
    verb.add_argument("--votes", type=int | None, help="segmentations drawn and averaged; the recipe's if not given")
    verb.add_argument("--timesteps", type=int | None, help="steps of sampling; the recipe's if not given, 0 for no diffusion")


def _common(verb: ArgumentParser) -> None:
    verb.add_argument("--seed", type=int, default=0, help="of every random draw")
    verb.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda or mps")


def _split_fields(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words for the verb, and recipe fields, which are the options with a dot in their name, with their values."""
    rest: list[str] = []
    fields: list[str] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not (word.startswith("--") and "." in word.split("=", 1)[0]):
            rest.append(word)
            continue
        fields.append(word)
        if "=" not in word and remaining and not remaining[0].startswith("--"):
            fields.append(remaining.pop(0))
    return rest, fields


if __name__ == "__main__":
    sys.exit(main())
