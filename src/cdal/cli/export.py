"""`cdal export`: Write a model as one graph for ONNX Runtime, OpenVINO or torch.export."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.words import DONE


def add_options(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("model", type=str, help="A .safetensors file, a run folder, or the name of a shipped model.")
    parser.add_argument("--to", type=Literal["onnx", "openvino", "torch"], default="onnx", help="Format of the graph.")
    parser.add_argument("--out", type=str | None, help="Folder for the graph and the JSON file beside it (default: this folder).")
    parser.add_argument(
        "--timesteps", type=int | None, help="Steps of sampling; 0 for no diffusion (default: the recipe's number)."
    )


def run(options: Namespace) -> int:
    """Run the verb; returns the exit code."""
    from cdal.inference.export import export

    print(export(options.model, options.to, options.out, options.timesteps))
    return DONE
