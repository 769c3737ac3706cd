"""`cdal ensemble`: Put trained models into one file, which then vote together."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import DONE


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument(
        "models",
        type=str,
        nargs="+",
        help=".safetensors files, run folders, folders of cross-validations (all models of one "
        "system), or names of shipped models.",
    )
    parser.add_argument(
        "--out", type=str, required=True, help="Model file to write, ending in .safetensors."
    )


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.segmenters.ensemble import ensemble

    tell(ensemble(options.models, options.out))
    return DONE
