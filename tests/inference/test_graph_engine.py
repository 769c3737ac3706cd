"""Prediction with exported graphs in a process that has neither PyTorch nor MONAI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

import cdal
from cdal.inference.export import export
from cdal.inference.graph_engine import GRAPHS, description_of
from cdal.inference.load import load
from cdal.inference.predictor import Predictor
from cdal.runtime.version import __version__
from cdal.segmenters.model_header import read_header
from cdal.segmenters.random_inputs import RandomInputs
from helpers.graphs import (
    DETERMINISTIC,
    Job,
    example,
    predict_without_torch,
    small_model,
)

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

RUNTIMES = ("onnxruntime", "openvino")
STAND_IN = {2: "res-unet", 3: "cdal-unet"}
"""Systems whose graph stands for those of others, by the axes that these see."""
OTHERS = [name for name in DETERMINISTIC if name not in STAND_IN.values()]


@dataclass(frozen=True)
class Predicted:
    """Results of a graph and of PyTorch, or what went wrong."""

    graph: Path
    torch: Path
    error: str


def stand_in(name: str, folder: Path) -> tuple[Path, Predictor]:
    """Another system's graph with the description of this one, and what PyTorch makes of both."""
    header = read_header(small_model(name, folder))
    recipe = header.recipe
    other = folder / f"{STAND_IN[recipe.data.spatial_dims]}.safetensors"
    graph = folder / f"{name}.onnx"
    graph.write_bytes(other.with_suffix(".onnx").read_bytes())
    about = description_of(header, recipe, 1, RandomInputs(), __version__)
    graph.with_suffix(".json").write_text(json.dumps(about))
    theirs = load(other)
    return graph, Predictor(theirs.engine, header, recipe, theirs.sampling, name=name)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], Predicted]:
    """By system, kind of graph and runtime: one process has predicted them all."""
    folder = tmp_path_factory.mktemp("graphs")
    return predict_all(folder, list(STAND_IN.values()), OTHERS)


@pytest.fixture(scope="module")
def predicted_slowly(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str, str], Predicted]:
    """The same for all other systems, with graphs of their own; that takes minutes."""
    return predict_all(tmp_path_factory.mktemp("graphs"), OTHERS, ())


def predict_all(
    folder: Path, systems: Sequence[str], described: Sequence[str]
) -> dict[tuple[str, str, str], Predicted]:
    """Export the systems, and predict with their graphs and with PyTorch.

    Args:
        folder: for everything.
        systems: are exported.
        described: have the graph of another system under their own description.
    """
    jobs: dict[tuple[str, str, str], tuple[Job, Path]] = {}

    def add(name: str, kind: str, graph: Path, model: Path | Predictor) -> None:
        header = read_header(model) if isinstance(model, Path) else model.header
        image = example(header.recipe, folder)
        theirs = folder / "torch" / name
        cdal.predict(model, [image], theirs, save=("mask", "probability"))
        for runtime in RUNTIMES if kind != "openvino" else RUNTIMES[1:]:
            if find_spec(runtime):
                job = Job(graph, image, folder / kind / runtime / name, runtime)
                jobs[name, kind, runtime] = job, theirs

    for name in systems:
        model = small_model(name, folder)
        add(name, "onnx", export(model, "onnx", folder), model)
    if described and find_spec("openvino"):
        model = folder / "res-unet.safetensors"
        add("res-unet", "openvino", export(model, "openvino", folder), model)
    for name in described:
        add(name, "described", *stand_in(name, folder))
    errors = predict_without_torch([job for job, _ in jobs.values()])
    return {key: Predicted(job.out, theirs, errors[job.out]) for key, (job, theirs) in jobs.items()}


def read(folder: Path, kind: str) -> np.ndarray:
    (path,) = folder.glob(f"*_{kind}.*")
    return np.asarray(Pillow.open(path)) if path.suffix == ".png" else nib.load(path).get_fdata()


def compare(found: Predicted) -> None:
    """The same probabilities to a thousandth, and the same mask but where two classes are as
    likely."""
    assert found.error == ""
    ours, theirs = (read(one, "probability").astype(float) for one in (found.graph, found.torch))
    masks = [read(one, "mask") for one in (found.graph, found.torch)]
    if theirs.max() > 1:  # a PNG holds 16 bits
        ours, theirs = ours / 65535, theirs / 65535
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    foreground = theirs if theirs.ndim > masks[0].ndim else theirs[..., None]
    ranked = np.sort(np.concatenate([1 - foreground.sum(-1, keepdims=True), foreground], -1), -1)
    sure = ranked[..., -1] - ranked[..., -2] > 2e-3
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(masks[0][sure], masks[1][sure])
    assert len(np.unique(masks[1])) > 1
    record = json.loads((found.graph / "predictions.json").read_text())
    assert record["predictions"][0]["vote_count"] == 1


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("system", STAND_IN.values())
def test_prediction_without_pytorch_gives_the_same_mask(
    system: str, runtime: str, predicted: dict[tuple[str, str, str], Predicted]
):
    """On images that are larger than a window: orientation, windows and the way back."""
    pytest.importorskip(runtime)
    compare(predicted[system, "onnx", runtime])


def test_openvinos_own_format_gives_the_same_mask(
    predicted: dict[tuple[str, str, str], Predicted],
):
    pytest.importorskip("openvino")
    compare(predicted["res-unet", "openvino", "openvino"])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("system", OTHERS)
def test_the_description_of_every_system_is_used_without_pytorch(
    system: str, runtime: str, predicted: dict[tuple[str, str, str], Predicted]
):
    """With another system's graph, as it takes long to make its own; that is a slow test."""
    pytest.importorskip(runtime)
    compare(predicted[system, "described", runtime])


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("system", OTHERS)
def test_all_other_systems_give_the_same_mask_too(
    system: str, runtime: str, predicted_slowly: dict[tuple[str, str, str], Predicted]
):
    pytest.importorskip(runtime)
    compare(predicted_slowly[system, "onnx", runtime])


def test_every_deterministic_system_is_tried():
    assert len(DETERMINISTIC) == 12
    assert set(GRAPHS) == {"onnx", "openvino", "torch"}
