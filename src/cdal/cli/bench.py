"""`cdal bench`: Measure speed and cost as in the documentation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.words import DONE, add_json, split_list


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument(
        "parts", type=str, nargs="*", help="Parts to measure (docs/guides/speed.md; default: all)."
    )
    parser.add_argument(
        "--systems",
        type=str,
        default="",
        help="Systems for the parts on prediction, separated by commas (default: all).",
    )
    parser.add_argument(
        "--data", type=str | None, help="Hippocampus data folder, for the part dice."
    )
    parser.add_argument(
        "--target",
        type=float,
        default=0.87,
        help="Mean validation Dice of the classes to reach in the part dice.",
    )
    parser.add_argument(
        "--model", type=str, default="hippocampus", help="Model for the part runtimes."
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="Number of measurements of each variant."
    )
    parser.add_argument(
        "--threads", type=int | None, help="Number of threads (default: PyTorch's choice)."
    )
    parser.add_argument(
        "--device", type=str, default="auto", help="Device: auto, cpu or cuda (default: auto)."
    )
    parser.add_argument("--out", type=str | None, help="Folder for bench.json and bench.md.")
    add_json(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    import torch

    from cdal.experiments.speed.run import bench

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    measured = bench(
        options.parts,
        split_list(options.systems),
        options.data,
        options.model,
        options.rounds,
        options.device,
        options.target,
        None if options.out is None else Path(options.out),
        lambda event: print(f"{event.task}: {event.name}", file=sys.stderr),
    )
    print(json.dumps(measured.to_dict()) if options.json else measured.markdown())
    return DONE
