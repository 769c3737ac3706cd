"""A trained segmenter as one graph for other runtimes.

The graph holds the encoder, all steps of sampling, and the mean and spread of the votes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from cdal.inference.graph_engine import GRAPHS, description_of
from cdal.recipes.recipe import Recipe
from cdal.recipes.variants import with_timesteps
from cdal.runtime.errors import UserError
from cdal.runtime.files import encoded, read_object, scratch_folder, write_bytes, write_json
from cdal.runtime.os_errors import cannot_write
from cdal.runtime.version import __version__
from cdal.segmenters.find_models import find_model, short_name
from cdal.segmenters.model_file import load_model
from cdal.segmenters.model_header import ModelHeader, read_header
from cdal.segmenters.segmenter import Graph, parameters

Target = Literal["onnx", "openvino", "torch"]

_LARGEST = 4096
"""Longest axis of an image, in units of the multiple that the network needs."""


class _Exported(nn.Module):
    """The exported module: votes `[V, K, *S]`, their mean `[K, *S]` and their spread `[*S]`."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.votes = graph  # a program of torch.export has a graph of its own

    def forward(self, image: Tensor, *draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        votes = self.votes(image, *draws)
        spread = (votes.var(dim=0, correction=0).sum(dim=0) / 2).sqrt()
        return votes, votes.mean(dim=0), spread


def export(
    model: Path | str, to: Target, out: Path | str | None = None, timesteps: int | None = None
) -> Path:
    """Write a model as a graph, and a JSON file that describes pre- and postprocessing.

    Args:
        model: a `.safetensors` file, a run folder, or the name of a shipped model.
        to: `onnx` (ONNX Runtime and others), `openvino` (its own format) or `torch` (a program of
            `torch.export`).
        out: folder for the files, which carry the model's name; the current folder if `None`.
        timesteps: T of sampling; the recipe's if `None`.

    Returns:
        The graph's file. `cdal.load` takes those of ONNX and OpenVINO.

    Raises:
        UserError: the model does not exist, it cannot become a graph, an extra is not installed, or
            a file of that name is there that no export wrote.
    """
    if to not in get_args(Target):
        raise UserError(f"--to must be one of {', '.join(get_args(Target))}; it is {to!r}.")
    path = find_model(model)
    if path.suffix in GRAPHS.values():
        raise UserError(
            f"{path} is an exported graph already. Give the .safetensors file that it was made of."
        )
    header = read_header(path)
    if header.members:
        raise UserError(
            f"{path} is an ensemble of {len(header.members)} models, which cannot be one graph. "
            "Export the models that it was made of: cdal.load takes a list of graphs, too."
        )
    target = Path(out or ".") / f"{short_name(path)}{GRAPHS[to]}"
    _need_free(target)
    recipe = with_timesteps(header.recipe, timesteps, path)
    segmenter, header = load_model(path, recipe)
    graph = segmenter.graph()
    if graph is None:
        raise UserError(
            f"{recipe.segmenter.name} draws random numbers inside its network and cannot be a "
            "graph; cdal and plain networks can."
        )
    exported, example, shapes = _with_examples(graph, recipe, header)
    inputs, outputs = (
        ["image", "noise", "z"][: len(example)],
        ["votes", "probability", "uncertainty"],
    )
    what = f"{path}: the network of {recipe.segmenter.name}"
    write_graph(exported, example, shapes, inputs, outputs, to, target, what)
    about = description_of(header, recipe, parameters(segmenter), graph.random, __version__)
    write_json(target.with_suffix(".json"), about)
    return target


def _need_free(target: Path) -> None:
    """Refuse to replace files that no export wrote; the JSON file tells whose they are.

    Raises:
        UserError: one is there.
    """
    about = target.with_suffix(".json")
    if not {"cdal", "random", "header"} <= set(read_object(about)):
        for path in (about, target):
            if path.exists():
                raise UserError(
                    f"{path} is there and was not written by an export; it is kept. Move it away, "
                    "or give another --out."
                )


def _with_examples(
    graph: Graph, recipe: Recipe, header: ModelHeader
) -> tuple[_Exported, tuple[Tensor, ...], Any]:
    """The exported module, inputs to trace it with, and the axes of these that are dynamic."""
    data, multiple = recipe.data, recipe.segmenter.multiple(recipe.data)
    image, axes, sizes = image_example(recipe, header)
    shapes: list[dict[int, Any]] = [axes]
    draws = tuple(
        map(torch.from_numpy, graph.random.draw(data.size, 2, np.random.default_rng(0)).values())
    )
    if draws:
        votes, step = (
            torch.export.Dim("votes", min=1, max=_LARGEST),
            multiple // graph.random.folding,
        )
        folded = {3 + axis: step * size if step > 1 else size for axis, size in enumerate(sizes)}
        shapes += [{1: votes, **folded}, {1: votes}]
    exported = _Exported(graph).eval()
    return (
        exported,
        (image, *draws),
        {"image": shapes[0], **({"draws": tuple(shapes[1:])} if draws else {})},
    )


def image_example(
    recipe: Recipe, header: ModelHeader
) -> tuple[Tensor, dict[int, Any], list[torch.export.Dim]]:
    """An image to trace a network with, its dynamic axes, and the sizes that these stand for.

    Returns:
        Image `[1, C, *S]`; by the number of an axis its length, a multiple of a size; and the
        sizes, one for each axis of space.
    """
    data, multiple = recipe.data, recipe.segmenter.multiple(recipe.data)
    image = torch.zeros(1, data.network_channels(header.image_channels), *data.size)
    sizes = [
        torch.export.Dim(f"size{axis}", min=1, max=_LARGEST) for axis in range(data.spatial_dims)
    ]
    axes = {2 + axis: multiple * size if multiple > 1 else size for axis, size in enumerate(sizes)}
    return image, axes, sizes


def write_graph(
    module: nn.Module,
    example: tuple[Tensor, ...],
    shapes: Any,
    inputs: list[str],
    outputs: list[str],
    to: Target,
    target: Path,
    what: str,
) -> None:
    """Trace a module and write it as a graph.

    Args:
        module: the module, in evaluation mode.
        example: its inputs.
        shapes: dynamic axes of the inputs, as `torch.export.export` takes them.
        inputs: names of the inputs.
        outputs: names of the outputs.
        to: kind of the graph, see `export`.
        target: file of the graph.
        what: what the module is, for errors.

    Raises:
        UserError: the module cannot become a graph, or an extra is not installed.
    """
    with _quiet():
        try:
            with torch.no_grad():
                module(*example)  # fill caches now, so that they become constants of the graph
            program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
            _write(program, to, target, inputs, outputs)
        except (UserError, OSError, MemoryError):
            raise
        except Exception as error:  # tracing and translating fail in many ways
            raise UserError(
                f"{what} cannot be made a graph of the kind {to}: {error}. Try another --to, or "
                "another --timesteps."
            ) from error


def _write(
    program: torch.export.ExportedProgram,
    to: Target,
    target: Path,
    inputs: list[str],
    outputs: list[str],
) -> None:
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)  # paths and lines of this machine
    if to == "torch":
        with encoded(target) as buffer:  # given a file, PyTorch takes its name into the archive
            torch.export.save(program, buffer)
        return
    try:
        import onnx  # noqa: F401 (what torch.onnx needs)
        import onnxscript  # noqa: F401 (the same)
    except ImportError as error:
        raise UserError(
            f'exporting to {to} needs further packages: pip install "cdal[{to}]"'
        ) from error
    # From PyTorch to ONNX and from there to OpenVINO, so that both compute the same graph.
    exported = torch.onnx.export(
        program, input_names=inputs, output_names=outputs, dynamo=True, verbose=False
    )
    assert exported is not None  # as no file was named
    model = exported.model_proto
    _forget_origin(model)
    if to == "onnx":
        write_bytes(target, model.SerializeToString())
        return
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            'exporting to openvino needs further packages: pip install "cdal[openvino]"'
        ) from error
    with scratch_folder(target.parent) as folder:
        with _told_of(target):
            (folder / "graph.onnx").write_bytes(model.SerializeToString())
        converted = openvino.convert_model(folder / "graph.onnx")
        with _told_of(target):
            openvino.save_model(converted, folder / "graph.xml", compress_to_fp16=False)
            saved = {end: (folder / f"graph{end}").read_bytes() for end in (".bin", ".xml")}
            # Some versions (2025.0 to 2026.0) cut a file off where the disk ends, without an error.
            openvino.Core().read_model(saved[".xml"], saved[".bin"])
        for end, content in saved.items():
            write_bytes(target.with_suffix(end), content)


@contextlib.contextmanager
def _told_of(target: Path) -> Iterator[None]:
    """Name in errors of writing what the user asked for, and not where it is made first."""
    try:
        yield
    except OSError as error:
        raise cannot_write(target, error) from error
    except RuntimeError as error:  # OpenVINO's, which names no file
        raise cannot_write(target, OSError(str(error))) from error


def _forget_origin(model: Any) -> None:
    """Delete from an ONNX model what the exporter notes on where its operations come from."""
    graph = model.graph
    groups = (graph.node, graph.value_info, graph.input, graph.output, graph.initializer)
    for part in (model, graph, *(part for group in groups for part in group)):
        del part.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the log messages and prints of the exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
