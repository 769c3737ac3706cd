"""`cdal rank`: List the unlabelled images that are most worth annotating next."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import (
    BAD_INPUT,
    DONE,
    IMAGES,
    IN_PART,
    MODEL,
    add_device,
    add_json,
    add_sampling,
    add_series,
    sampling_of,
)

if TYPE_CHECKING:
    from cdal.inference.ranking import Ranking

_SHOWN = 20


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    from cdal.inference.ranking import METHODS

    parser.add_argument("model", type=str, help=MODEL)
    parser.add_argument(
        "images",
        type=str,
        nargs="+",
        help=IMAGES,
    )
    parser.add_argument("--count", type=int, default=20, help="Number of images to choose.")
    parser.add_argument(
        "--out", type=str, default="rank.csv", help="File for the table of all images (CSV)."
    )
    parser.add_argument(
        "--method",
        type=str,
        default="mixed",
        help="Order: " + "; ".join(f"{name} ({about})" for name, about in METHODS.items()) + ".",
    )
    parser.add_argument(
        "--patient",
        type=str | None,
        help=(
            "Regular expression that finds the patient in a file's name (default: the column "
            "`patient` of a cases.csv beside the images)."
        ),
    )
    add_series(parser)
    add_sampling(parser)
    add_device(parser)
    add_json(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import progress_bar
    from cdal.inference.load import load
    from cdal.inference.ranking import rank

    predictor = load(options.model, sampling_of(options), options.device)
    with progress_bar() as report:
        ranking = rank(
            predictor,
            options.images,
            options.count,
            options.method,
            options.patient,
            series=options.series,
            out=options.out,
            report=report,
        )
    for message in ranking.failed.values():
        tell(f"cdal rank: {message}", error=True)
    if options.json:
        rows = [asdict(row) for row in ranking.rows]
        print(json.dumps({"images": rows, "notes": ranking.notes}))
    else:
        _show(ranking, options.out)
    if ranking.failed or not ranking.chosen:
        return IN_PART if ranking.chosen else BAD_INPUT
    return DONE


def _show(ranking: Ranking, out: str) -> None:
    from cdal.cli.console import show_tables

    chosen = ranking.chosen
    table = [["rank", "image", "patient", "why"]]
    table += [[str(row.rank), Path(row.path).name, row.patient, row.reason] for row in chosen]
    if not any(row.patient for row in chosen):
        table = [[*row[:2], row[3]] for row in table]
    more = len(chosen) - _SHOWN
    notes = ranking.notes + ([f"... and {more} more chosen"] if more > 0 else [])
    show_tables([table[: 1 + _SHOWN]] if chosen else [], notes)
    others = len(ranking.rows) - len(chosen) - len(ranking.failed)
    tell(f"{len(chosen)} of {len(ranking.rows)} images chosen; all {len(ranking.rows)} in {out}")
    if not chosen:
        tell(f"cdal rank: no image can be chosen; {others} were left out.", error=True)
