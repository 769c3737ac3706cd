"""`cdal check`: Check a data folder case by case, and show how to fix each problem."""

from __future__ import annotations

import json
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.recipes import checked
from cdal.cli.words import BAD_INPUT, DATA, DONE, add_json


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("data", type=str, help=DATA)
    parser.add_argument(
        "--sheet",
        type=str | None,
        help="PNG file to write, showing cases with the outlines of their masks.",
    )
    parser.add_argument(
        "--all", action="store_true", help="Show every finding, not only the first of each kind."
    )
    add_json(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import show_check
    from cdal.datasets.contact_sheet import need_png, write_contact_sheet

    if options.sheet is not None:
        need_png(Path(options.sheet))
    check = checked(options.data)
    if options.json:
        print(json.dumps(check.to_dict()))
    else:
        show_check(check, everything=options.all)
    if options.sheet is not None:  # last, because an error of the disk hides no finding
        write_contact_sheet(
            Path(options.sheet),
            check.folder,
            [finding.case for finding in check.findings if finding.case],
        )
    return BAD_INPUT if check.errors else DONE
