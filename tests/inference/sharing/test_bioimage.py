"""The files for bioimage.io: their words give the mask of `cdal predict`, by another runtime."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Pillow

import cdal
from cdal.cli import main
from cdal.imaging.image import Image
from cdal.inference.sharing.bioimage import description, write_bioimage
from cdal.inference.sharing.card import Shared, open_shared
from cdal.recipes.recipe import override
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.ensemble import ensemble
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.recipes import small_recipe

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def made(folder: Path, intensities: str, channels: int, **changes: Any) -> Path:
    """A small model of pictures with random weights and a temperature."""
    values = {"data.size": [32, 32], "data.intensities": intensities, "training.precision": "32"}
    recipe = override(small_recipe(), {**values, **changes})
    torch.manual_seed(0)
    generator = build_segmenter(recipe, channels, 2).generator
    torch.nn.init.normal_(generator.unet.head.weight, std=1.0)
    header = ModelHeader(
        recipe, ("background", "a"), channels, licence="CC BY 4.0", temperature=1.5
    )
    path = folder / "small.safetensors"
    save_model(path, generator.state_dict(), header)
    return path


@pytest.fixture(scope="module", params=[("range", 3), ("image", 1)], ids=["range", "image"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and, in a folder beside it, its files, with a picture as their example."""
    intensities, channels = request.param
    folder = tmp_path_factory.mktemp("bioimage")
    path = made(folder, intensities, channels)
    shape = (40, 50, 3)[: 2 + (channels == 3)]
    picture = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    Pillow.fromarray(picture).save(folder / "picture.png")
    words = ["--to", "bioimage", "--example", str(folder / "picture.png"), "--out", str(folder)]
    assert main(["export", str(path), *words]) == 0
    return folder / "small-bioimage"


def described(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "bioimageio.yaml").read_text())


def preprocessed(values: np.ndarray, steps: list[dict[str, Any]]) -> np.ndarray:
    """The words of the format, as its specification defines them; all axes but space are kept."""
    statistics = values
    for step in steps:
        given = step.get("kwargs", {})
        if step["id"] == "scale_linear":
            values = values * given["gain"] + given["offset"]
        elif step["id"] == "scale_range":
            ends = [given["min_percentile"], given["max_percentile"]]
            low, high = np.percentile(statistics, ends, axis=(2, 3), keepdims=True)
            values = (values - low) / (high - low + 1e-6)
        elif step["id"] == "clip":
            values = np.clip(values, given["min"], given["max"])
        else:
            assert step == {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
    return values.astype(np.float32)


@pytest.mark.slow
def test_another_runtime_gives_the_mask_of_a_prediction(written: Path):
    (given,), about = described(written)["inputs"], described(written)
    values = np.load(written / given["test_tensor"]["source"])
    session = onnxruntime.InferenceSession(written / about["weights"]["onnx"]["source"])
    seen = preprocessed(values, given["preprocessing"])
    (found,) = session.run(None, {"image": seen})
    np.testing.assert_allclose(found, np.load(written / "test_output.npy"), atol=1e-4)
    sampling = cdal.Sampling(timesteps=0, votes=1, mirror=False, decision="largest")
    predictor = cdal.load(written.parent / "small.safetensors", sampling)
    image = Image(values[0], stored=np.dtype(np.uint8))
    expected = predictor.predict(image, case="x")
    np.testing.assert_allclose(found[0], expected.probability, atol=1e-4)
    np.testing.assert_array_equal(found[0].argmax(axis=0), expected.mask)
    assert len(np.unique(expected.mask)) == 2


@pytest.mark.slow
def test_the_example_is_the_middle_of_the_picture(written: Path):
    values = np.load(written / "test_input.npy")[0]
    with Pillow.open(written.parent / "picture.png") as opened:
        picture = np.asarray(opened)
    picture = picture[None] if picture.ndim == 2 else np.moveaxis(picture, -1, 0)
    np.testing.assert_array_equal(values, picture[:, 4:36, 9:41])
    with Pillow.open(written / "cover.png") as cover:
        assert cover.size == (512, 512)


def test_the_description_says_how_an_image_is_prepared():
    """By name, as other programs know the steps; sizes are those that the network takes."""
    shared = open_shared("monuseg")
    about = description(shared, shared.header.recipe)
    assert about["license"] == "CC-BY-NC-SA-4.0"
    (image,) = about["inputs"]
    assert [axis.get("size") for axis in image["axes"][2:]] == [{"min": 256, "step": 8}] * 2
    values = np.array([0.0, 127.5, 255.0]).reshape(1, 3, 1, 1)
    prepared = preprocessed(values, image["preprocessing"])
    np.testing.assert_allclose(prepared.ravel(), [-2, 0, 2], atol=1e-6)
    volume = open_shared("hippocampus")
    axes = description(volume, volume.header.recipe)["inputs"][0]["axes"]
    assert [(axis.get("id"), axis.get("unit")) for axis in axes[2:]] == [
        ("x", "millimeter"),
        ("y", "millimeter"),
        ("z", "millimeter"),
    ]


@pytest.mark.slow
def test_the_formats_own_library_accepts_it(written: Path):
    """In a process of its own: the library changes the logging of the whole process."""
    if find_spec("bioimageio") is None or find_spec("bioimageio.core") is None:
        pytest.skip("bioimageio.core is not installed")
    code = (
        "import sys; from bioimageio.core import test_model; "
        "summary = test_model(sys.argv[1]); print(summary.format()); "
        "sys.exit(summary.status != 'passed')"
    )
    words = [sys.executable, "-c", code, str(written / "bioimageio.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data.position": True}, "more than an image"),
        ({"data.neighbours": 1}, "more than an image"),
    ],
)
def test_what_cannot_be_described_is_refused(changes: dict[str, Any], says: str, tmp_path: Path):
    recipe = override(small_recipe(), changes)
    header = ModelHeader(recipe, ("background", "a"), 1)
    with pytest.raises(UserError, match=says):
        write_bioimage(Shared(tmp_path / "x.safetensors", header, "x", ""), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_ensemble_is_no_graph(tmp_path: Path):
    path = made(tmp_path, "image", 1)
    both = ensemble([path, path], tmp_path / "both.safetensors")
    with pytest.raises(UserError, match="ensemble of 2"):
        write_bioimage(open_shared(both), tmp_path / "out")


@pytest.mark.parametrize(
    "words",
    [
        ["--to", "bundle", "--timesteps", "0"],
        ["--to", "hub", "--example", "x.png"],
        ["--to", "onnx", "--example", "x.png"],
    ],
)
def test_options_of_other_forms_are_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["export", str(made(tmp_path, "image", 1)), *words]) == 2
    assert words[2] in capsys.readouterr().err.replace("an example", "--example")
