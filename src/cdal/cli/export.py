"""`cdal export`: Write a model as a graph for other runtimes, or in a form that others read."""

from __future__ import annotations

from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import DONE
from cdal.runtime.errors import UserError


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument(
        "model",
        type=str,
        help="A .safetensors file, a run folder, the name of a shipped model, or a model of the "
        "hub.",
    )
    parser.add_argument(
        "--to",
        type=Literal["onnx", "openvino", "torch", "bundle", "bioimage", "hub"],
        default="onnx",
        help=(
            "A graph: onnx, openvino or torch (a program for PyTorch, which runs code when it is "
            "opened; cdal predict does not open it). Or a folder: bundle (MONAI), bioimage "
            "(bioimage.io) or hub (what cdal push sends)."
        ),
    )
    parser.add_argument(
        "--out",
        type=str | None,
        help="Folder for the graph and its JSON file, or for the folder (default: the current "
        "folder).",
    )
    parser.add_argument(
        "--timesteps",
        type=int | None,
        help="Number of sampling steps of a graph; 0 for no diffusion (default: the recipe's).",
    )
    parser.add_argument(
        "--example",
        type=str | None,
        help="Image for the test tensors and the cover of --to bioimage (default: a drawn one).",
    )


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.inference.graph_engine import GRAPHS

    if options.to in GRAPHS:
        from cdal.inference.export import export

        if options.example is not None:
            raise UserError("--example belongs to --to bioimage only.")
        tell(export(options.model, options.to, options.out, options.timesteps))
        return DONE
    from cdal.inference.sharing.card import needs_code, open_shared
    from cdal.inference.sharing.share import share

    if options.timesteps is not None:
        raise UserError(
            f"--timesteps belongs to graphs; --to {options.to} says itself how it is sampled."
        )
    shared = open_shared(options.model)
    tell(share(shared, options.to, options.out, options.example))
    if shared.networks and options.to != "bioimage":  # whose graph needs no code
        tell(needs_code(shared.networks), error=True)
    return DONE
