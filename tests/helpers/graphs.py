"""Models with random weights and the graphs that are made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image as Pillow

from cdal.recipes import find_recipe, with_segmenter
from cdal.recipes.recipe import Recipe
from cdal.recipes.systems import SYSTEMS
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from cdal.segmenters.segmenter import Segmenter
from helpers.files import OBLIQUE
from helpers.segmenters import shake
from helpers.systems import SMALL

DETERMINISTIC = [name for name, system in SYSTEMS.items() if not system.settings().stochastic]

_FEWER = {"cdal-unet": (6, 8), "msu-net": (4, 6), "res-unet": (4, 6)}
"""Channels of two levels, for a graph with few nodes."""

_SIDE = {2: 32, 3: 16}


def small_model(name: str, folder: Path) -> Path:
    """A model file of a deterministic system: of volumes if it can see them, else of pictures."""
    volumes = 3 in SYSTEMS[name].settings().dims
    recipe = find_recipe("hippocampus" if volumes else "phantoms")
    dims = recipe.data.spatial_dims
    side = 32 if name == "unet-3d" else _SIDE[dims]  # its deepest level must not be a single voxel
    recipe = replace(recipe, data=replace(recipe.data, size=(side,) * dims, mirror_votes=False))
    recipe = with_segmenter(recipe, name)
    fewer = {"channels": _FEWER[name]} if name in _FEWER else {}
    settings = replace(recipe.segmenter, **(SMALL[name] | fewer))
    recipe = replace(recipe, segmenter=settings, training=replace(recipe.training, precision="32"))
    classes = ("background", "a", "b") if dims == 3 else ("background", "a")
    segmenter = undecided(recipe, len(classes))
    weights = segmenter.players()[segmenter.predictor].state_dict()
    path = folder / f"{name}.safetensors"
    save_model(path, weights, ModelHeader(recipe, classes, 1, temperature=1.5))
    return path


def undecided(recipe: Recipe, classes: int) -> Segmenter:
    """The recipe's segmenter with the first random weights that give noise more than one class."""
    image = torch.randn(1, 1, *recipe.data.size, generator=torch.Generator().manual_seed(0))
    for seed in range(50):
        torch.manual_seed(seed)
        segmenter = build_segmenter(recipe, 1, classes).eval()
        shake(segmenter)
        mask = segmenter.sample(image, 1, torch.Generator())[0, 0].argmax(dim=0)
        counts = mask.flatten().bincount(minlength=classes)
        if (counts > mask.numel() // 20).sum() > 1:
            return segmenter
    raise AssertionError(f"{recipe.segmenter.name} gives every voxel the same class")


def example(recipe: Recipe, folder: Path) -> Path:
    """A picture or an oblique volume that is larger than the model's window."""
    rng = np.random.default_rng(0)
    if recipe.data.spatial_dims == 2:
        path = folder / "picture.png"
        Pillow.fromarray(rng.integers(0, 255, size=(70, 45)).astype(np.uint8)).save(path)
        return path
    path = folder / "volume.nii.gz"
    values = rng.normal(size=(40, 20, 18)).astype(np.float32)
    affine = OBLIQUE @ np.diag([0.6, 0.8, 0.5, 1.0])
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


@dataclass(frozen=True)
class Job:
    """A prediction in a process without PyTorch.

    A graph, an image, a folder, and what computes it.
    """

    graph: Path
    image: Path
    out: Path
    runtime: str


_PREDICT = """
import json, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "monai", "lightning_fabric"):
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Forbidden())
from cdal.cli import main

outcomes = {}
for graph, image, out, runtime in json.loads(sys.argv[1]):
    if runtime == "onnxruntime":
        sys.modules["openvino"] = None  # as if it were not installed
    elif sys.modules.get("openvino", 0) is None:
        del sys.modules["openvino"]
    try:
        code = main(["predict", graph, image, "--out", out, "--save", "mask", "probability"])
        outcomes[out] = "" if code == 0 and runtime in sys.modules else f"exit code {code}"
    except Exception as error:
        outcomes[out] = repr(error)
print(json.dumps(outcomes))
"""


def predict_without_torch(jobs: Sequence[Job]) -> dict[Path, str]:
    """What went wrong with each job, by its folder; one process does them all."""
    order = sorted(jobs, key=lambda job: job.runtime)  # ONNX Runtime before OpenVINO is there
    words = [[str(job.graph), str(job.image), str(job.out), job.runtime] for job in order]
    done = subprocess.run(
        [sys.executable, "-c", _PREDICT, json.dumps(words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {Path(out): error for out, error in json.loads(done.stdout.splitlines()[-1]).items()}
