"""`cdal demo`: Train on phantoms, segment held-out ones and write a report."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.words import DONE, add_device


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument(
        "--out",
        type=str,
        default="cdal-demo",
        help="Folder for the phantoms, the run and the report.",
    )
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="Wall-clock budget of the training in minutes."
    )
    parser.add_argument("--seed", type=int, default=0, help="Random seed.")
    add_device(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import progress_bar
    from cdal.experiments.demo import run_demo

    with progress_bar() as report:
        outcome = run_demo(Path(options.out), options.minutes, options.seed, options.device, report)
    for line in outcome.lines():
        print(line)
    return DONE
