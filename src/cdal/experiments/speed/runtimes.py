"""Exported graphs compared with PyTorch: time, and difference of the probabilities."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from cdal.experiments.speed.inference import VOTES
from cdal.experiments.speed.timing import Row, interleaved
from cdal.inference.export import Target, export
from cdal.inference.graph_engine import (
    GRAPHS,
    Description,
    GraphEngine,
    OnnxEngine,
    OpenVinoEngine,
    ProgramEngine,
    engine_for,
    read_description,
)
from cdal.inference.torch_engine import TorchEngine
from cdal.inference.voting import draw_votes
from cdal.runtime.errors import UserError
from cdal.segmenters.find_models import find_model
from cdal.segmenters.model_file import load_model

_RUNTIMES: tuple[tuple[Target, str, Callable[[Path, Description], GraphEngine]], ...] = (
    ("onnx", "onnxruntime", OnnxEngine),
    ("onnx", "openvino", OpenVinoEngine),
    ("openvino", "openvino", OpenVinoEngine),
    ("torch", "torch", ProgramEngine),
)
"""Kind of graph, package that runs it, and its engine."""


def runtimes(model: str, rounds: int) -> list[Row]:
    """Measure a model on a volume, in PyTorch and as exported graphs.

    PyTorch runs in both precisions. A graph is measured if its runtime is installed. The column
    `start to mask s` has the time of the command `cdal predict` for one volume, including the start
    of the program. It is `None` if the command would choose another runtime for the graph.

    Args:
        model: name or path of the model.
        rounds: number of rounds.

    Raises:
        UserError: the model does not exist, or it segments pictures.
    """
    path = find_model(model)
    segmenter, header = load_model(path)
    recipe = header.recipe
    if recipe.data.spatial_dims != 3:
        raise UserError(
            f"the exported graphs are measured on a volume; {path.name} segments pictures. Give "
            "--model hippocampus."
        )
    plain = replace(recipe, training=replace(recipe.training, precision="32"))
    exact = segmenter.graph()
    assert exact is not None  # the shipped models can be exported
    values = (
        np.random.default_rng(0)
        .normal(size=(header.image_channels, *recipe.data.size))
        .astype(np.float32)
    )
    engines: dict[str, Any] = {
        "PyTorch": TorchEngine(segmenter, recipe),
        "PyTorch, float32": TorchEngine(segmenter, plain),
    }
    precision = {name: engine.about()["precision"] for name, engine in engines.items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        affine = np.diag([*(recipe.data.spacing or (1.0, 1.0, 1.0)), 1.0])
        nib.save(nib.Nifti1Image(values[0], affine), folder / "volume.nii.gz")
        models = {"PyTorch": str(path)}
        for target, package, kind in _RUNTIMES:
            if importlib.util.find_spec(package) and importlib.util.find_spec("onnxscript"):
                graph = folder / f"{path.stem}{GRAPHS[target]}"
                if not graph.exists():
                    export(path, target, folder)
                engine = kind(graph, read_description(graph))
                name = f"{graph.suffix} by {engine.name}"
                engines[name], precision[name] = engine, engine.about()["precision"]
                if engine_for(graph.suffix) is kind:  # cdal predict chooses this engine
                    models[name] = str(graph)
        taken = interleaved(
            {name: _call(engine, values, recipe) for name, engine in engines.items()}, rounds
        )
        draws = exact.random.draw(values.shape[1:], VOTES, np.random.default_rng(0))
        with torch.no_grad():
            truth = exact(
                torch.from_numpy(values[None]), *map(torch.from_numpy, draws.values())
            ).numpy()
        return [
            {
                "runtime": name,
                "precision": precision[name],
                "seconds": taken[name],
                "of PyTorch float32": taken[name] / taken["PyTorch, float32"],
                "largest difference": _difference(engine, values, draws, truth),
                "start to mask s": _whole(models[name], folder, rounds) if name in models else None,
            }
            for name, engine in engines.items()
        ]


def _call(engine: Any, values: np.ndarray, recipe: Any) -> Any:
    return lambda: draw_votes(engine, values, recipe, VOTES, engine.generator(0))


def _difference(
    engine: Any, values: np.ndarray, draws: dict[str, np.ndarray], truth: np.ndarray
) -> float | None:
    """Largest difference in probability from PyTorch, given the same noise and z."""
    if isinstance(engine, TorchEngine):
        return None
    return float(np.abs(engine.votes({"image": values[None], **draws}) - truth).max())


def _whole(model: str, folder: Path, rounds: int) -> float:
    words = ["predict", model, str(folder / "volume.nii.gz"), "--votes", f"{VOTES}"]
    taken = []
    for _ in range(max(3, rounds // 3)):
        out = tempfile.mkdtemp(dir=folder)  # a new one: what is done there is not done again
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "cdal", *words, "--out", out], check=True, capture_output=True
        )
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))
