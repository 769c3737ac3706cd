"""Exported graphs: the same numbers as PyTorch for the same chance, at every size."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cdal
from cdal.inference.export import export, write_graph
from cdal.inference.graph_engine import (
    GraphEngine,
    OnnxEngine,
    OpenVinoEngine,
    ProgramEngine,
    load_exported,
    read_description,
)
from cdal.inference.load import load
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.cdal import CDAL
from cdal.segmenters.model_file import load_model, save_model
from cdal.segmenters.model_header import ModelHeader
from helpers import systems
from helpers.files import full_disk
from helpers.recipes import small_recipe

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIZES = {2: (32, 32), 3: (16, 24, 16)}


def make_model(folder: Path, dims: int, classes: int, **changes: object) -> Path:
    """Random weights, whose votes differ."""
    small = small_recipe()
    data = DataSettings(spatial_dims=dims, size=SIZES[dims])
    recipe = replace(small, data=data, segmenter=replace(small.segmenter, **changes))
    torch.manual_seed(0)
    segmenter = build_segmenter(recipe, 1, classes)
    if isinstance(segmenter, CDAL):
        head: nn.Module = segmenter.generator.head
        nn.init.normal_(head.weight, std=0.3)
    names = ("background", "lesion", "other")[:classes]
    path = folder / "small.safetensors"
    save_model(
        path, segmenter.players()[segmenter.predictor].state_dict(), ModelHeader(recipe, names, 1)
    )
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of pictures and, beside it, its graph."""
    folder = tmp_path_factory.mktemp("small")
    export(make_model(folder, 2, 2), "onnx", folder)
    return folder / "small.onnx"


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of volumes with three classes and, beside it, its graph."""
    folder = tmp_path_factory.mktemp("volume")
    export(make_model(folder, 3, 3, denoiser_channels=12, sampling_timesteps=1), "onnx", folder)
    return folder / "small.onnx"


def agrees(graph: Path, kind: type[GraphEngine], dims: int, classes: int) -> None:
    """With PyTorch for the same chance, at other sizes and numbers of votes than in the export."""
    about = read_description(graph)
    engine = kind(graph, about)
    assert about.header.classes == ("background", "lesion", "other")[:classes]
    segmenter, _ = load_model(graph.with_suffix(".safetensors"))
    for votes, add in ((1, 0), (3, 8)):
        size = [length + add for length in SIZES[dims]]
        image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))
        draws = segmenter.draw(image, votes, torch.Generator().manual_seed(2))
        root = segmenter.generator.noise_root()
        with torch.no_grad():
            expected = segmenter.segment(image, draws, root)[:, 0].numpy()
        inputs = {"image": image, "noise": draws.noise, "z": draws.z}
        found = engine.votes({name: value.numpy() for name, value in inputs.items()})
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert votes == 1 or np.abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize("kind", [OnnxEngine, OpenVinoEngine])
@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_an_onnx_graph_computes_what_pytorch_does(
    dims: int, kind: type[GraphEngine], request: pytest.FixtureRequest
):
    if kind is OpenVinoEngine:
        pytest.importorskip("openvino")
    graph = request.getfixturevalue("small" if dims == 2 else "volume")  # an export takes long
    agrees(graph, kind, dims, dims)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "kind"),
    [
        pytest.param("openvino", OpenVinoEngine, marks=pytest.mark.slow),
        ("torch", ProgramEngine),
    ],
)
def test_a_graph_of_another_kind_computes_what_pytorch_does(
    to: str, kind: type[GraphEngine], tmp_path: Path
):
    """In one step, and with noise of fewer numbers than the label has."""
    if kind is OpenVinoEngine:
        pytest.importorskip("openvino")
    model = make_model(tmp_path, 2, 2, denoiser_channels=12, sampling_timesteps=1)
    agrees(export(model, to, tmp_path), kind, 2, 2)


def test_the_graphs_mean_and_spread_are_those_of_its_votes(small: Path):
    engine = OnnxEngine(small, read_description(small))
    image = np.random.default_rng(0).normal(size=(1, 1, 32, 32)).astype(np.float32)
    draws = engine.random.draw((32, 32), 4, engine.generator(0))
    votes, mean, spread = engine.session.run(
        ["votes", "probability", "uncertainty"], {"image": image, **draws}
    )
    np.testing.assert_allclose(mean, votes.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(spread, votes[:, 1].std(axis=0), atol=1e-5)
    np.testing.assert_allclose(votes.sum(axis=1), 1, atol=1e-5)


def test_the_random_inputs_are_standard_normal_and_belong_to_the_seed(small: Path):
    engine, _ = load_exported(small)
    draws = engine.random.draw((256, 256), 2, engine.generator(0, "a"))
    assert {name: value.shape for name, value in draws.items()} == {
        "noise": (2, 2, 16, 64, 64),
        "z": (2, 2, 4),
    }
    assert abs(draws["noise"].mean()) < 0.01 and draws["noise"].std() == pytest.approx(1, abs=0.01)
    again, other = (
        engine.random.draw((256, 256), 1, engine.generator(0, name))["noise"][:, 0]
        for name in ("a", "b")
    )
    np.testing.assert_array_equal(draws["noise"][:, 0], again)
    assert (again != other).mean() > 0.99


def test_a_graph_says_what_it_needs(small: Path, phantoms: Path, tmp_path: Path):
    about = json.loads(small.with_suffix(".json").read_text())
    random = {"timesteps": 2, "noise_channels": 16, "folding": 4, "latent": 4, "z": "drawn"}
    assert about["random"] == random
    assert about["parameters"] == load_exported(small)[0].parameters
    assert "mean 0 and standard deviation 1" in " ".join(about["preprocessing"])
    scored = cdal.evaluate(small, phantoms, split="all", sampling=Sampling(votes=2))
    assert scored.summary()["cases"] == 16
    assert scored.protocol["device"] == (
        "openvino, cpu" if find_spec("openvino") else "onnxruntime, cpu"
    )


def test_what_cannot_be_exported_is_refused(small: Path, tmp_path: Path):
    path = small.with_suffix(".safetensors")
    with pytest.raises(UserError, match="onnx, openvino, torch"):
        export(path, "tflite", tmp_path)
    with pytest.raises(UserError, match="exported graph already"):
        export(small, "onnx", tmp_path)
    with pytest.raises(UserError, match="fixed at the export"):
        cdal.load(small, Sampling(timesteps=1))
    with pytest.raises(UserError, match="runs on the cpu here; the device is 'cuda'"):
        cdal.load(small, device="cuda")
    (tmp_path / "alone.onnx").write_bytes(small.read_bytes())
    with pytest.raises(UserError, match="Keep the two together"):
        cdal.load(tmp_path / "alone.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    (tmp_path / "broken.json").write_text(json.dumps({"random": {}, "parameters": 1, "header": {}}))
    with pytest.raises(UserError, match="cannot be read"):
        cdal.load(tmp_path / "broken.onnx")


@pytest.mark.parametrize("system", ["segdiff-small", "prob-unet", "ssn", "mc-dropout"])
def test_systems_that_draw_inside_their_network_are_refused(system: str, tmp_path: Path):
    recipe = systems.small("phantoms", system)
    segmenter = build_segmenter(recipe, 1, 2)
    weights = segmenter.players()[segmenter.predictor].state_dict()
    header = ModelHeader(recipe, ("background", "lesion"), 1)
    save_model(tmp_path / "m.safetensors", weights, header)
    message = f"{system} draws random numbers inside its network and cannot be a graph"
    with pytest.raises(UserError, match=message):
        export(tmp_path / "m.safetensors", "onnx", tmp_path)


@pytest.mark.slow
def test_no_steps_is_a_graph_without_chance(small: Path, tmp_path: Path):
    path = small.with_suffix(".safetensors")
    graph = export(path, "torch", tmp_path, timesteps=0)
    about = read_description(graph)
    engine, header = ProgramEngine(graph, about), about.header
    assert not engine.stochastic
    image = np.random.default_rng(0).normal(size=(1, 1, 32, 32)).astype(np.float32)
    expected = (
        cdal.load(path, Sampling(timesteps=0))
        .engine.segmenter.sample(torch.from_numpy(image), 1, torch.Generator())[0]
        .numpy()
    )
    np.testing.assert_allclose(engine.sample(image, 5, engine.generator(0))[0], expected, atol=1e-4)
    assert header.recipe.segmenter.sampling_timesteps == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent": 5}, "its inputs are"),
        ({"latent": 10**9}, "random.latent must be 0 to 10000"),
        ({"timesteps": 3}, "its inputs are"),
        ({"timesteps": 0}, "its inputs are"),
        ({"timesteps": None}, "its inputs are"),
        ({"noise_channels": 1}, "its inputs are"),
        ({"folding": 0}, "random.folding must be 1"),
        ({"folding": "x"}, "random.folding must be"),
        ({"z": 3}, "random.z must be"),
        ({"soul": 1}, "soul"),
    ],
)
@pytest.mark.parametrize("kind", ["onnxruntime", "openvino"])
def test_a_graph_beside_another_description_is_refused(
    kind: str,
    changes: dict[str, object],
    message: str,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """When it is loaded, and not by votes that are no numbers."""
    pytest.importorskip(kind)
    about = json.loads(small.with_suffix(".json").read_text())
    about["random"] |= changes
    about["random"] = {k: v for k, v in about["random"].items() if v is not None}
    (tmp_path / "small.onnx").write_bytes(small.read_bytes())
    (tmp_path / "small.json").write_text(json.dumps(about))
    engine = OnnxEngine if kind == "onnxruntime" else OpenVinoEngine
    monkeypatch.setattr("cdal.inference.graph_engine.engine_for", lambda suffix: engine)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "small.onnx")


def test_a_graph_that_fails_says_so(small: Path, tmp_path: Path):
    """A wrong folding is seen only when the graph is computed."""
    about = json.loads(small.with_suffix(".json").read_text())
    about["random"]["folding"] = 7
    (tmp_path / "small.onnx").write_bytes(small.read_bytes())
    (tmp_path / "small.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="cannot be computed"):
        load(tmp_path / "small.onnx").predict(np.random.default_rng(0).normal(size=(32, 32)))


@pytest.mark.parametrize("text", ["[" * 100_000, "null", '{"random": {}}', "\udcff"])
def test_a_damaged_description_is_refused(text: str, small: Path, tmp_path: Path):
    (tmp_path / "small.onnx").write_bytes(small.read_bytes())
    (tmp_path / "small.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"small\.json"):
        load(tmp_path / "small.onnx")


def test_a_description_of_other_classes_is_refused(small: Path, tmp_path: Path):
    about = json.loads(small.with_suffix(".json").read_text())
    about["header"]["classes"] += ["third"]
    (tmp_path / "small.onnx").write_bytes(small.read_bytes())
    (tmp_path / "small.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match="gives 2 classes; its header names 3"):
        load(tmp_path / "small.onnx").predict(np.random.default_rng(0).normal(size=(32, 32)))


@pytest.mark.slow
def test_a_program_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Opening one runs code that it holds; so does the export of an honest model."""
    opened: list[object] = []
    monkeypatch.setattr(torch.export, "load", opened.append)
    program = export(make_model(tmp_path, 2, 2, denoiser_channels=12), "torch", tmp_path)
    with pytest.raises(UserError, match="runs code"):
        load(program)
    assert not opened


@pytest.mark.slow
@pytest.mark.parametrize("to", [pytest.param("onnx", marks=pytest.mark.slow), "torch"])
def test_the_same_model_gives_the_same_bytes_and_no_path_of_this_machine(to: str, tmp_path: Path):
    """Not even of different places in a program."""
    model = make_model(tmp_path, 2, 2, denoiser_channels=12, sampling_timesteps=1)
    first = export(model, to, tmp_path / "a").read_bytes()
    second = export(model, to, tmp_path / "b").read_bytes()
    assert first == second
    assert str(Path(cdal.__file__).parent).encode() not in first
    assert str(tmp_path).encode() not in first


@pytest.mark.slow
def test_a_full_disk_leaves_no_program(tmp_path: Path):
    model = make_model(tmp_path, 2, 2, denoiser_channels=12, sampling_timesteps=1)
    with full_disk(10_000), pytest.raises(UserError, match="cannot be written"):
        export(model, "torch", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("full", ["before", "while"])
def test_a_full_disk_is_told_of_the_graph_that_was_asked_for(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """OpenVINO's is made from ONNX in a scratch folder, and its own error names no file."""
    openvino = pytest.importorskip("openvino")
    save = openvino.save_model

    def saved(*arguments: Any, **options: Any) -> None:
        with full_disk(10_000):
            save(*arguments, **options)

    monkeypatch.setattr(openvino, "save_model", saved)
    network, target = torch.nn.Conv2d(1, 64, 9).eval(), tmp_path / "out" / "a.xml"
    example = (torch.zeros(1, 1, 16, 16),)
    with (
        full_disk(10_000) if full == "before" else nullcontext(),
        pytest.raises(UserError) as told,
    ):
        write_graph(network, example, None, ["image"], ["votes"], "openvino", target, "it")
    assert str(told.value).startswith(f"{target} cannot be written: ")
    assert not target.parent.exists()


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_graph_without_diffusion_computes_the_coarse_segmentation(dims: int, tmp_path: Path):
    model = make_model(tmp_path, dims, 3)
    graph = load(export(model, "onnx", tmp_path / "out", timesteps=0), Sampling(votes=1))
    array = np.random.default_rng(0).normal(size=SIZES[dims]).astype(np.float32)
    ours = load(model, Sampling(votes=1, timesteps=0)).predict(array)
    np.testing.assert_allclose(graph.predict(array).probability, ours.probability, atol=1e-4)


def test_a_network_that_cannot_be_translated_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"of the kind onnx: no such operator\. Try another"):
        export(make_model(tmp_path, 2, 2), "onnx", tmp_path / "out", timesteps=0)
    assert not (tmp_path / "out").exists()
