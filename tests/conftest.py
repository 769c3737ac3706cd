"""What tests share: a folder of phantoms, a model trained on it, and the real data where it is.

PyTorch and MONAI are imported where they are needed, as the process that only hands out the tests
(`pytest -n`) needs neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from helpers.data import real
from helpers.recipes import small_recipe

if TYPE_CHECKING:
    import torch

    from helpers.hub import Hub

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Check shapes in every test, and share the cores among the processes that run them."""
    worker = getattr(config, "workerinput", None)
    if worker is None and config.getoption("numprocesses", None):
        return
    if find_spec("jaxtyping") and find_spec("beartype"):  # a GPU lent for a short time has neither
        from helpers.shapes import check_shapes

        check_shapes()
    if worker is not None:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // worker["workercount"]))
        # Processes that tests start take no more.
        os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 16 phantoms of 32 x 32 with three annotators."""
    from cdal.datasets.phantoms import write_phantoms

    folder = tmp_path_factory.mktemp("data") / "phantoms"
    return write_phantoms(folder, 16, seed=1, size=32, raters=3)


@pytest.fixture(scope="session")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the small recipe, trained for some steps."""
    from cdal.training.train import train

    out = tmp_path_factory.mktemp("run") / "small"
    train(small_recipe(), phantoms, out, "cpu")
    return out


@pytest.fixture(scope="session")
def volume_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3D model with random weights: enough for everything but scores."""
    import torch

    from cdal.recipes.recipe import DataSettings
    from cdal.segmenters.build import build_segmenter
    from cdal.segmenters.model_file import save_model
    from cdal.segmenters.model_header import ModelHeader

    data = DataSettings(spatial_dims=3, size=(16, 16, 16), spacing=(1.0, 1.0, 1.0), flips=(0,))
    recipe = replace(small_recipe(), data=data)
    torch.manual_seed(0)
    generator = build_segmenter(recipe, 1, 3).generator
    torch.nn.init.normal_(generator.head.weight, std=0.2)
    path = tmp_path_factory.mktemp("models") / "volume.safetensors"
    save_model(path, generator.state_dict(), ModelHeader(recipe, ("background", "a", "b"), 1))
    return path


@pytest.fixture
def rng() -> torch.Generator:
    """A seeded generator."""
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in for the Hugging Face hub, an empty cache, and a token."""
    constants = pytest.importorskip("huggingface_hub").constants
    from helpers.hub import TOKEN, serving

    for name in ("HF_HUB_CACHE", "HF_XET_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield running


@pytest.fixture(scope="session")
def hippocampus() -> Path:
    """The real volumes; tests that ask for them are skipped where they are not."""
    return real("hippocampus")
