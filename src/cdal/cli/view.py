"""`cdal view`: Look through a folder of results in the browser, and correct its masks."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import DONE, add_serving, serving_of


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("results", type=str, help="Folder that cdal predict --out wrote.")
    add_serving(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.evaluation.review.cases import read_results
    from cdal.serve.run import serve

    results = Path(options.results)
    read_results(results)
    serve(
        serving_of(options),
        results=results,
        started=lambda address: tell(f"{results} at {address}"),
    )
    return DONE
