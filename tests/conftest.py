"""What tests share: small recipes, a folder of phantoms, a model trained on it, and the real data
where it is.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
import torch

from cdal.datasets.phantoms import write_phantoms
from cdal.recipes.recipe import DataSettings
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from cdal.training.train import train
from helpers.data import real
from helpers.recipes import small_recipe

hypothesis.settings.register_profile(
    "untimed", deadline=None
)  # how long an example takes depends on what else the machine does
hypothesis.settings.load_profile("untimed")

if find_spec("jaxtyping") and find_spec(
    "beartype"
):  # a GPU that is lent for a short time has neither
    from helpers.shapes import check_shapes

    check_shapes()

if "PYTEST_XDIST_WORKER" in os.environ:  # processes that compute side by side share the cores
    torch.set_num_threads(
        max(1, torch.get_num_threads() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    )
    os.environ["OMP_NUM_THREADS"] = str(
        torch.get_num_threads()
    )  # and so do the processes that tests start


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 16 phantoms of 32 x 32 with three annotators."""
    return write_phantoms(
        tmp_path_factory.mktemp("data") / "phantoms", 16, seed=1, size=32, raters=3
    )


@pytest.fixture(scope="session")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the small recipe, trained for some steps."""
    out = tmp_path_factory.mktemp("run") / "small"
    train(small_recipe(), phantoms, out, "cpu")
    return out


@pytest.fixture(scope="session")
def volume_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3D model with random weights: enough for everything but scores."""
    recipe = replace(
        small_recipe(),
        data=DataSettings(spatial_dims=3, size=(16, 16, 16), spacing=(1.0, 1.0, 1.0), flips=(0,)),
    )
    torch.manual_seed(0)
    segmenter = build_segmenter(recipe, 1, 3)
    torch.nn.init.normal_(segmenter.generator.head.weight, std=0.2)
    path = tmp_path_factory.mktemp("models") / "volume.safetensors"
    save_model(
        path, segmenter.generator.state_dict(), ModelHeader(recipe, ("background", "a", "b"), 1)
    )
    return path


@pytest.fixture
def rng() -> torch.Generator:
    """A seeded generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def hippocampus() -> Path:
    """The real volumes; tests that ask for them are skipped where they are not."""
    return real("hippocampus")
