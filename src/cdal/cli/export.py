"""`cdal export`: Export a model as one graph for ONNX Runtime, OpenVINO or torch.export."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import DONE


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument(
        "model", type=str, help="A .safetensors file, a run folder, or the name of a shipped model."
    )
    parser.add_argument(
        "--to",
        type=Literal["onnx", "openvino", "torch"],
        default="onnx",
        help=(
            "Format of the graph. torch is a program for PyTorch, which runs code when it is "
            "opened; cdal predict does not open it."
        ),
    )
    parser.add_argument(
        "--out",
        type=str | None,
        help="Folder for the graph and its JSON file (default: the current folder).",
    )
    parser.add_argument(
        "--timesteps",
        type=int | None,
        help="Number of sampling steps; 0 for no diffusion (default: the recipe's).",
    )


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.inference.export import export

    tell(export(options.model, options.to, options.out, options.timesteps))
    return DONE
