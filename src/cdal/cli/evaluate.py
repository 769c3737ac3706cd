"""`cdal evaluate`: Score a model on the cases of a data folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import (
    DATA,
    DONE,
    IN_PART,
    MODEL,
    add_device,
    add_json,
    add_sampling,
    sampling_of,
)


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("model", type=str, help=MODEL)
    parser.add_argument("--data", type=str, required=True, help=DATA)
    parser.add_argument(
        "--fold", type=int | None, help="Number of the fold (default: the model's own)."
    )
    parser.add_argument(
        "--split",
        type=Literal["train", "validation", "test", "all"],
        default="test",
        help="Which cases to score.",
    )
    parser.add_argument(
        "--scoring",
        type=str,
        nargs="+",
        help="Scoring protocols (cdal info; default: the recipe's).",
    )
    parser.add_argument(
        "--out", type=str | None, help="Folder for the table of scores by case and the summary."
    )
    add_json(parser)
    add_sampling(parser)
    add_device(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import progress_bar, show_summary
    from cdal.evaluation.evaluate import evaluate
    from cdal.evaluation.result import write_result
    from cdal.inference.load import load

    predictor = load(options.model, sampling_of(options), options.device)
    with progress_bar() as report:
        scores = evaluate(
            predictor, options.data, None, options.split, options.fold, options.scoring, report
        )
    if options.out is not None:
        write_result(scores, Path(options.out))
    print(json.dumps(scores.summary())) if options.json else show_summary(scores.summary())
    if not options.json:
        kept = f"written into {options.out}" if options.out else "not written (--out FOLDER)"
        tell(f"scores of each case, all measures and settings: {kept}")
    for message in scores.failed.values():
        tell(f"cdal evaluate: {message}", error=True)
    return IN_PART if scores.failed else DONE
