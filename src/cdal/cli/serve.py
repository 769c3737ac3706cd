"""`cdal serve`: Serve models to browsers, 3D Slicer, QuPath and programs of your own."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import (
    DONE,
    MODEL,
    add_device,
    add_sampling,
    add_serving,
    sampling_of,
    serving_of,
)


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument("models", type=str, nargs="*", help=f"Models to serve. Each: {MODEL}")
    parser.add_argument(
        "--data", type=str | None, help="Folder of images to segment, or a data folder."
    )
    parser.add_argument(
        "--out",
        type=str,
        default="cdal-results",
        help="Folder for the results of these images, or with results of cdal predict.",
    )
    add_serving(parser)
    add_sampling(parser)
    add_device(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.serve.run import serve

    serve(
        serving_of(options),
        options.models,
        sampling_of(options),
        options.device,
        Path(options.out),
        None if options.data is None else Path(options.data),
        lambda address: tell(f"serving at {address}"),
    )
    return DONE
