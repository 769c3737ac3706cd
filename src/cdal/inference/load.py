"""Load a trained model, or several that vote together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cdal.inference.engine import Engine
from cdal.inference.ensemble_engine import EnsembleEngine
from cdal.inference.graph_engine import GRAPHS, load_exported
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.inference.voting import votes_drawn
from cdal.recipes.ensemble import join_recipes
from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.find_models import find_models
from cdal.segmenters.hub import pinned
from cdal.segmenters.model_header import ModelHeader, join_headers, named_models, read_header


def load(
    model: Path | str | Sequence[Path | str],
    sampling: Sampling | None = None,
    device: str = "auto",
) -> Predictor:
    """Load a model, ready to predict, or several that vote together.

    Args:
        model: a `.safetensors` file, a run folder, the name of a shipped model, a model of the hub
            (`hf://owner/name[@revision]`, see `cdal.segmenters.hub`), or a graph written by
            `export` (`.onnx`, `.xml`). A `.pt2` is refused, because opening it runs code. The
            folder of a cross-validation stands for the models of all its runs, see
            `cdal.segmenters.find_models.find_models`. Several models, those of a list too, vote
            together, see `cdal.inference.ensemble_engine.EnsembleEngine`.
        sampling: options of sampling; those of the model's recipe if `None`.
        device: `auto`, `cpu`, `cuda` or `mps`. An exported graph runs on the CPU.

    Raises:
        UserError: the model does not exist, is damaged, cannot run on the device, or cannot be
            sampled with these options; or two models cannot vote together.
    """
    names = [model] if isinstance(model, (str, os.PathLike)) else list(model)
    if not names:
        raise UserError("no model is named. Give one or more.")
    sampling = sampling or Sampling()
    found = [(name, find_models(name)) for name in names]
    files = [path for _, paths in found for path in paths]
    graphs = {
        path: _open_exported(path, sampling, device)
        for path in files
        if path.suffix in GRAPHS.values()
    }
    headers = [graphs[path][0] if path in graphs else read_header(path) for path in files]
    models, titles = named_models(headers, files)
    header = headers[0] if len(files) == 1 else join_headers(models, titles)
    members = [
        member
        for path, own in zip(files, headers, strict=True)
        for member in ([graphs[path][1]] if path in graphs else _load(path, own, sampling, device))
    ]
    engine, recipe = members[0]
    if len(members) > 1:
        engine = EnsembleEngine([engine for engine, _ in members])
        recipe = join_recipes([recipe for _, recipe in members], titles)
    path = files[0] if len(files) == 1 else None
    title = ", ".join(pinned(name, paths[0]) for name, paths in found)
    return Predictor(engine, header, recipe, sampling, path, title, tuple(files))


def _load(
    path: Path, header: ModelHeader, sampling: Sampling, device: str
) -> list[tuple[Engine, Recipe]]:
    """Each model of a file: its engine, and its recipe with the options of sampling."""
    recipes = [sampling.of(model.recipe, path) for model in header.models]
    # Imported here, because an exported model is loaded without PyTorch.
    from cdal.inference.torch_engine import TorchEngine
    from cdal.runtime.devices import find_device
    from cdal.segmenters.model_file import load_segmenters

    segmenters = load_segmenters(path, header, recipes, str(find_device(device)))
    return [
        (TorchEngine(segmenter, recipe), recipe)
        for segmenter, recipe in zip(segmenters, recipes, strict=True)
    ]


def _open_exported(
    path: Path, sampling: Sampling, device: str
) -> tuple[ModelHeader, tuple[Engine, Recipe]]:
    """The header of an exported graph, its engine, and its recipe with the options of sampling."""
    if device not in ("auto", "cpu"):
        raise UserError(
            f"{path}: an exported graph runs on the cpu here; the device is {device!r}. Take the "
            ".safetensors file."
        )
    engine, header = load_exported(path)
    _need_fixed_steps(header.recipe, sampling, path)
    return header, (engine, sampling.of(header.recipe, path))


def _need_fixed_steps(recipe: Recipe, sampling: Sampling, path: Path) -> None:
    steps = recipe.segmenter.diffusion_steps
    if sampling.timesteps not in (None, steps):
        raise UserError(
            f"{path}: the number of timesteps, {steps}, was fixed at the export. Export it again "
            "with --timesteps."
        )


def need_sampling(predictor: Predictor, sampling: Sampling, name: str) -> None:
    """Refuse options of sampling that are not possible for a model, without loading it again.

    Args:
        predictor: the model, with any options.
        sampling: the options.
        name: name of the model in errors.

    Raises:
        UserError: an option is not possible.
    """
    graph = any(path.suffix in GRAPHS.values() for path in predictor.files)
    for model in predictor.header.models:
        if graph:
            _need_fixed_steps(model.recipe, sampling, Path(name))
        sampling.of(model.recipe, Path(name))
    if sampling.votes is not None:
        votes_drawn(predictor.engine, predictor.recipe, sampling.votes)
