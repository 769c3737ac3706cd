"""`cdal data`: List or prepare public data sets, convert labels, or generate phantoms."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.words import DATA, DONE, add_json
from cdal.runtime.errors import UserError


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    actions = parser.add_subcommands(dest="action", title="actions")
    action = ArgumentParser(
        description="List the public data sets: content, source, licence, citation."
    )
    add_json(action)
    actions.add_subcommand("list", action, help="list content, source, licence and citation")
    action = ArgumentParser(description="Convert the files of a public data set to a data folder.")
    action.add_argument("name", type=str, help="Name of the set (cdal data list).")
    action.add_argument(
        "source", type=str, help="Folder or archive with the original files, or the word download."
    )
    action.add_argument("target", type=str, help="Data folder to create.")
    actions.add_subcommand("prepare", action, help="convert original files to a data folder")
    action = ArgumentParser(
        description="Write a data folder with the same images, and its labels in another form."
    )
    action.add_argument("source", type=str, help=DATA)
    action.add_argument("target", type=str, help="Data folder to create.")
    action.add_argument(
        "--to",
        type=str,
        required=True,
        help="Form of the labels: masks, geojson, coco, seg.nrrd or dicom-seg.",
    )
    actions.add_subcommand(
        "convert", action, help="turn the labels of a data folder into another form"
    )
    action = ArgumentParser(
        description="Generate a data folder of phantoms, each with six simulated annotators."
    )
    action.add_argument(
        "target",
        type=str,
        help="Data folder to write. Existing phantoms in it are generated again.",
    )
    action.add_argument("--count", type=int, default=320, help="Number of phantoms.")
    action.add_argument("--seed", type=int, default=0, help="Random seed.")
    actions.add_subcommand("phantoms", action, help="generate pictures with several annotators")


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    actions = {"list": _list, "prepare": _prepare, "convert": _convert, "phantoms": _phantoms}
    return actions[options.action](options[options.action])


def _list(options: Namespace) -> int:
    from cdal.cli.console import show_values
    from cdal.datasets.public import PUBLIC_SETS

    fields = ("title", "about", "where", "licence", "citation")
    values = {
        name: {field: getattr(public, field) for field in fields}
        for name, public in PUBLIC_SETS.items()
    }
    for name, public in PUBLIC_SETS.items():
        if public.address:
            values[name]["where"] += f", or `cdal data prepare {name} download TARGET`"
    print(json.dumps(values)) if options.json else show_values(values)
    return DONE


def _phantoms(options: Namespace) -> int:
    from cdal.datasets.phantoms import write_phantoms

    if options.count < 1:
        raise UserError(f"--count must be 1 or more; it is {options.count}.")
    print(write_phantoms(Path(options.target), options.count, options.seed))
    return DONE


def _convert(options: Namespace) -> int:
    from cdal.cli.console import progress_bar
    from cdal.datasets.convert import convert_folder

    with progress_bar() as report:
        converted = convert_folder(options.source, options.target, options.to, report)
    print(f"{len(converted.cases)} cases in {options.target}")
    return DONE


def _prepare(options: Namespace) -> int:
    from cdal.cli.console import progress_bar
    from cdal.datasets.public import prepare

    with progress_bar() as report:
        prepared = prepare(options.name, options.source, options.target, report)
    for file, reason in prepared.left_out.items():
        print(f"left out: {file}: {reason}", file=sys.stderr)
    print(
        f"{prepared.cases} of {prepared.complete} cases in {options.target}, "
        f"{len(prepared.left_out)} files left out"
    )
    for note in prepared.notes:
        print(note)
    return DONE
