"""Several models that are loaded as one: from a list, a file, and a cross-validation's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import cdal
from cdal.cli import main
from cdal.inference.export import export
from cdal.inference.graph_engine import description_of
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.runtime.version import __version__
from cdal.segmenters.ensemble import ensemble
from cdal.segmenters.model_header import read_header
from cdal.segmenters.random_inputs import RandomInputs
from helpers.ensembles import member, plain_recipe, run


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """The folder of a cross-validation with two folds."""
    for fold in (0, 1):
        run(tmp_path / "cv" / "cdal" / f"fold-{fold}", fold, temperature=1.0 + fold)
    return tmp_path / "cv"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, size=(40, 36)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_list_a_folder_and_a_file_are_the_same(folds: Path, picture: Path, tmp_path: Path):
    runs = [folds / "cdal" / f"fold-{fold}" for fold in (0, 1)]
    file = cdal.ensemble(runs, tmp_path / "m.safetensors")
    ways = {"list": runs, "folder": folds, "system": folds / "cdal", "file": file}
    found = {way: load(model, Sampling(votes=3), "cpu") for way, model in ways.items()}
    masks = {way: predictor.predict(picture) for way, predictor in found.items()}
    for way, predictor in found.items():
        assert predictor.header.members == found["file"].header.members, way
        assert predictor.about() == found["file"].about()
        assert predictor.about()["segmenter"] == "ensemble of 2 cdal"
        assert predictor.about()["members"] == 2
        assert predictor.temperature == pytest.approx(2**0.5, abs=5e-4)
        np.testing.assert_array_equal(masks[way].probability, masks["file"].probability)
    assert found["file"].path == file
    assert found["folder"].path is None
    assert found["folder"].files == tuple(folder / "model.safetensors" for folder in runs)


def test_one_model_in_a_list_or_a_folder_is_that_model(tmp_path: Path):
    run(tmp_path / "cv" / "cdal" / "fold-0")
    for model in ([tmp_path / "cv/cdal/fold-0"], tmp_path / "cv"):
        predictor = load(model, None, "cpu")
        assert predictor.about()["segmenter"] == "cdal"
        assert "members" not in predictor.about()
    with pytest.raises(UserError, match="no model is named"):
        load([])


def test_models_that_do_not_fit_are_refused_by_name(tmp_path: Path):
    files = [
        member(tmp_path / "a.safetensors", recipe=plain_recipe()),
        member(tmp_path / "b.safetensors", recipe=plain_recipe(overlap=0.25)),
    ]
    with pytest.raises(UserError, match=r"a\.saf.*b\.saf.*data\.overlap is 0\.5 .* and 0\.25"):
        load(files)


def test_predictions_are_recorded_and_finished_by_the_same_call(
    folds: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    words = ["predict", str(folds), str(picture), "--out", str(out), "--votes", "3"]
    words += ["--device", "cpu", "--save", "mask", "votes"]
    assert main(words) == 0
    (row,) = json.loads((out / "predictions.json").read_text())["predictions"]
    assert (row["segmenter"], row["members"], row["vote_count"]) == ("ensemble of 2 cdal", 2, 3)
    assert row["model"] == str(folds)
    assert main(words) == 0
    assert "1 of them by an earlier call" in capsys.readouterr().out
    member(folds / "cdal" / "fold-1" / "model.safetensors", 5)  # other weights
    written = predict(folds, [picture], out, Sampling(votes=3), ("mask", "votes"))
    assert written.earlier == 0


def test_a_file_is_made_used_and_described_by_commands(
    folds: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    third = member(tmp_path / "third.safetensors", 2, temperature=1.5)
    file = tmp_path / "out" / "m.safetensors"
    assert main(["ensemble", str(folds), str(third), "--out", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    assert main(["info", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["segmenter"], told["votes"]) == ("ensemble of 3 cdal", 15)
    assert told["temperature"] == pytest.approx(3 ** (1 / 3), abs=5e-4)
    assert [one["recipe"]["segmenter"]["name"] for one in told["members"]] == ["cdal"] * 3
    assert main(["info", str(folds), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == 2
    words = [str(picture), "--out", str(tmp_path / "out"), "--votes", "3"]
    assert main(["predict", str(file), *words]) == 0
    assert main(["predict", str(file), *words[:-1], "2"]) == 2
    assert "votes must be 3 or more" in capsys.readouterr().err
    assert main(["ensemble", str(third), "--out", str(file)]) == 2
    assert "2 to 32 members" in capsys.readouterr().err


def bright_graph(path: Path, like: Path) -> Path:
    """A graph of ONNX that finds what is brighter than the mean, with the header of a model."""
    helper = pytest.importorskip("onnx").helper
    pytest.importorskip("onnxruntime")
    space = ["h", "w"]
    graph = helper.make_graph(
        [
            helper.make_node("Sigmoid", ["image"], ["bright"]),
            helper.make_node("Sub", ["one", "bright"], ["dark"]),
            helper.make_node("Concat", ["dark", "bright"], ["votes"], axis=1),
        ],
        "bright",
        [helper.make_tensor_value_info("image", 1, [1, 1, *space])],
        [helper.make_tensor_value_info("votes", 1, [1, 2, *space])],
        [helper.make_tensor("one", 1, [1], [1.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    header = read_header(like)
    about = description_of(header, header.recipe, 1, RandomInputs(), __version__)
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def test_an_ensemble_is_no_graph_but_graphs_vote_together(picture: Path, tmp_path: Path):
    file = member(tmp_path / "a.safetensors", recipe=plain_recipe())
    with pytest.raises(UserError, match="an ensemble of 2 models, which cannot be one graph"):
        export(ensemble([file, file], tmp_path / "m.safetensors"), "onnx", tmp_path)
    graph = bright_graph(tmp_path / "bright.onnx", file)
    alone = [load(model, None, "cpu").predict(picture).probability for model in (graph, file)]
    mixed = load([graph, file], None, "cpu")
    np.testing.assert_allclose(
        mixed.predict(picture).probability, np.mean(alone, axis=0), atol=1e-6
    )
    assert mixed.engine.parameters == 1 + load(file).engine.parameters
    for model in ([graph, file], [file, graph]):
        written = predict(model, [picture], tmp_path / "out")
        assert not written.failed
