"""`cdal calibrate`: Fit a model's temperature, expected Dice and intervals on annotated cases."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import DATA, DONE, MODEL, add_device, add_sampling, sampling_of


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("model", type=str, help=MODEL)
    parser.add_argument("--data", type=str, required=True, help=DATA)
    parser.add_argument(
        "--split",
        type=Literal["validation", "all"],
        default="validation",
        help="The model's own validation cases, or all cases of a folder that it never saw.",
    )
    parser.add_argument(
        "--out", type=str, required=True, help="Model file (.safetensors) to write."
    )
    add_sampling(parser)
    add_device(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import progress_bar
    from cdal.training.calibrate import recalibrate

    with progress_bar() as report:
        lines = recalibrate(
            options.model,
            options.data,
            Path(options.out),
            sampling_of(options),
            options.split,
            options.device,
            report,
        )
    for line in lines:
        tell(line)
    return DONE
