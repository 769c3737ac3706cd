"""`cdal bench`: Measure speed and cost as the documentation reports them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.words import DONE, add_json, split_list


def add_options(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("parts", type=str, nargs="*", help="What to measure (docs/speed.md; default: everything).")
    parser.add_argument("--systems", type=str, default="", help="Names with commas, for the parts on inference (default: all).")
    parser.add_argument("--data", type=str | None, help="The hippocampus data folder, for the time to a Dice.")
    parser.add_argument("--target", type=float, default=0.87, help="That Dice: mean over the classes on the validation cases.")
    parser.add_argument("--model", type=str, default="hippocampus", help="Model for the exported graphs.")
    parser.add_argument("--rounds", type=int, default=7, help="How often each variant is measured.")
    parser.add_argument("--threads", type=int | None, help="Threads to compute with (default: PyTorch's choice).")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu or cuda (default: auto).")
    parser.add_argument("--out", type=str | None, help="Folder for bench.json and bench.md.")
    add_json(parser)


def run(options: Namespace) -> int:
    """Run the verb; returns the exit code."""
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
