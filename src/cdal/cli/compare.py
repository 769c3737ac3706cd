"""`cdal compare`: Compare evaluations of the same cases by tables, paired tests and pictures."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.recipes import show_comparison
from cdal.cli.words import add_json


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument(
        "results",
        type=str,
        nargs="+",
        help=(
            "Folders from cdal evaluate --out, or folders that contain such folders. NAME=FOLDER "
            "names the system."
        ),
    )
    parser.add_argument(
        "--reference",
        type=str | None,
        help="System to compare the others with (default: the first).",
    )
    parser.add_argument(
        "--score",
        type=str,
        default="dice",
        help="Score to compare: dice, iou, precision, recall, hd95 or assd.",
    )
    parser.add_argument(
        "--scoring",
        type=str | None,
        help="Scoring protocol (cdal info; default: the main one of each evaluation).",
    )
    parser.add_argument(
        "--out",
        type=str | None,
        help="Folder for the tables (Markdown, CSV, LaTeX, HTML, JSON) and pictures.",
    )
    add_json(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.evaluation.comparison import compare
    from cdal.evaluation.tables import write_comparison

    comparison = compare(options.results, options.reference, options.score, scoring=options.scoring)
    if options.out is not None:
        write_comparison(comparison, Path(options.out))
    return show_comparison(comparison, options.json)
