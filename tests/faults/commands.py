"""The commands that faults are tried on, and the small things that they work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cdal.datasets.phantoms import write_phantoms
from cdal.recipes.recipe import DataSettings, to_yaml
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.files import save_nifti
from helpers.recipes import small_recipe


@dataclass(frozen=True)
class Command:
    """A command, or several that make one result together.

    Attributes:
        lines: words after `cdal` of each; `{out}` stands for the output, other names for `things`.
        worker: what is in the command line of a process that does its work; empty if it has none.
        share: of so many moments one is tried, because the command takes long.
        needs: module without which it is skipped.
        faults: faults that are tried; all if empty. Processes that start take seconds each.
        again: whether it can be given again when it is done; else it refuses, changing nothing.
    """

    lines: tuple[str, ...]
    worker: str = ""
    share: int = 1
    needs: str = ""
    faults: tuple[str, ...] = ()
    again: bool = True


_PREDICT = "predict {model} {images} --out {out} --device cpu --votes 2 --save mask probability"
_TRAIN = "train {recipe} --data {data} --out {out} --device cpu"
_KILLS = ("killed at any time", "worker killed", "killed at a change")
_GRAPHS = (*_KILLS, "killed in a write", "files limited", "disk full")

COMMANDS: dict[str, Command] = {
    "predict": Command((_PREDICT,)),
    "predict, volumes": Command(
        (_PREDICT.replace("model", "volume").replace("images", "volumes"),)
    ),
    "predict, two shards at once": Command((f"{_PREDICT} --shard 1/2", f"{_PREDICT} --shard 2/2")),
    "predict --workers 2": Command(
        (f"{_PREDICT} --workers 2",),
        "multiprocessing.spawn",
        share=2,
        faults=(*_KILLS, "few open files", "two at once"),
    ),
    "predict --engine ray": Command(
        (f"{_PREDICT} --engine ray --workers 2",),
        "ray::_Actor",
        share=5,
        needs="ray",
        faults=_KILLS[:2],
    ),
    "review": Command(("review {results} --out {out}/page.html",)),
    "train": Command((_TRAIN,), share=2),
    "train, cases on disk": Command((f"{_TRAIN} --training.cache disk",), share=2),
    "crossval": Command(
        (
            "crossval {recipe} --data {data} --out {out} --segmenter cdal-unet --folds 0,1 "
            "--budget 4steps --device cpu",
        ),
        "-m cdal",
        share=5,
        faults=_KILLS,
    ),
    "evaluate": Command(
        ("evaluate {model} --data {data} --split all --out {out} --votes 2 --device cpu",)
    ),
    "calibrate": Command(
        (
            "calibrate {model} --data {data} --split all --out {out}/model.safetensors --votes 2 "
            "--device cpu",
        )
    ),
    "ensemble": Command(("ensemble {model} {second} --out {out}/model.safetensors",)),
    "export --to onnx": Command(
        ("export {model} --to onnx --out {out}",), share=10, needs="onnx", faults=_GRAPHS
    ),
    "export --to openvino": Command(
        ("export {model} --to openvino --out {out}",), share=10, needs="openvino", faults=_GRAPHS
    ),
    "export --to torch": Command(
        ("export {model} --to torch --out {out}",), share=10, faults=_GRAPHS
    ),
    "export --to bundle": Command(("export {model} --to bundle --out {out}",)),
    "export --to bioimage": Command(
        ("export {model} --to bioimage --out {out}",), share=10, needs="onnx", faults=_GRAPHS
    ),
    "export --to hub": Command(("export {model} --to hub --out {out}",)),
    "data phantoms": Command(("data phantoms {out} --count 3",)),
    "data convert": Command(("data convert {data} {out} --to geojson",), again=False),
    "data prepare": Command(("data prepare hippocampus {originals} {out}",), again=False),
}


def make_things(folder: Path) -> Mapping[str, Path]:
    """What the commands work with, by the names that their lines have."""
    import torch

    data = write_phantoms(folder / "data", 14, seed=1, size=32, raters=2)
    recipe = small_recipe()
    (folder / "recipe.yaml").write_text(to_yaml(recipe))
    volumes = replace(
        recipe, data=DataSettings(spatial_dims=3, size=(16, 16, 16), spacing=(1.0, 1.0, 1.0))
    )
    classes = ("background", "lesion")
    models = {"model": recipe, "second": recipe, "volume": volumes}
    for number, (name, one) in enumerate(models.items()):
        torch.manual_seed(number)
        generator = build_segmenter(one, 1, len(classes)).generator
        torch.nn.init.normal_(generator.head.weight, std=0.2)
        header = ModelHeader(one, classes, 1)
        save_model(folder / f"{name}.safetensors", generator.state_dict(), header)
    rng = np.random.default_rng(0)
    for i in range(2):
        values = rng.normal(size=(18, 17, 16)).astype(np.float32)
        save_nifti(folder / f"volumes/v{i}.nii.gz", values)
    for i in range(1, 4):
        label = np.zeros((30, 32, 34), np.uint8)
        label[5:10, 5:10, 5:10], label[15:20, 15:20, 15:20] = 1, 2
        name = f"hippocampus_{i:03d}.nii.gz"
        values = rng.normal(size=label.shape).astype(np.float32)
        save_nifti(folder / "originals/imagesTr" / name, values)
        save_nifti(folder / "originals/labelsTr" / name, label)
    images = folder / "images"
    images.mkdir()
    for path in sorted((data / "images").iterdir())[:4]:
        (images / path.name).write_bytes(path.read_bytes())
    return {
        "data": data,
        "recipe": folder / "recipe.yaml",
        "images": images,
        "volumes": folder / "volumes",
        "originals": folder / "originals",
        "results": folder / "results",
        **{name: folder / f"{name}.safetensors" for name in models},
    }
