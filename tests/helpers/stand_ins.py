"""Small files in place of those that the documentation names: `scan.nii.gz`, `DATA`, `runs/mine`.

Three tables say all of it: `MADE`, what is made when a block names it and it is not there; `DATA`,
which data folder a command is about; and `SMALLER`, what is added to a command so that it takes a
moment.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image as Pillow

from helpers.files import ball, disc_folder, picture, save_nifti, write_series
from helpers.recipes import small_recipe
from helpers.slices import new_slices

if TYPE_CHECKING:
    from cdal.recipes.recipe import Recipe

SHAPE = (18, 20, 16)


def scan(path: Path, seed: int = 0) -> np.ndarray:
    """Write a volume of 1 mm with something bright, and return what it is."""
    rng, inside = np.random.default_rng(seed), ball(SHAPE, np.eye(4))
    inside = np.roll(inside, rng.integers(-2, 3, 3), axis=(0, 1, 2))
    save_nifti(path, (rng.normal(100, 10, SHAPE) + 80 * inside).astype(np.float32))
    return inside


def slice_(path: Path, size: int = 48, channels: int = 0) -> None:
    """Write a picture with a bright disc."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((size, size)) - size / 2
    array = rng.integers(0, 60, (size, size)) + 120 * (rows**2 + columns**2 < (size / 3) ** 2)
    shown = array.astype(np.uint8)
    picture(path, np.stack([shown] * channels, axis=-1) if channels else shown)


def scans(root: Path) -> None:
    """A folder with a few volumes."""
    for i in range(3):
        scan(root / f"s{i}.nii.gz", i)


def pictures(root: Path) -> None:
    """A folder with some pictures."""
    disc_folder(root / "made", 6, 32)
    for path in (root / "made" / "images").iterdir():
        path.rename(root / path.name)
    for path in sorted((root / "made").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "made").rmdir()


def volumes(root: Path, count: int = 8) -> None:
    """A data folder of volumes with the classes of the hippocampus model, called as no real one."""
    for i in range(count):
        label = scan(root / f"imagesTr/v{i}.nii.gz", i).astype(np.uint8)
        label[:, SHAPE[1] // 2 :] *= 2
        save_nifti(root / f"labelsTr/v{i}.nii.gz", label)
    names = {"background": 0, "Anterior": 1, "Posterior": 2}
    (root / "dataset.json").write_text(json.dumps({"labels": names}))


def radiographs(root: Path) -> None:
    """A data folder with the partition of the recipe `cxr`."""
    disc_folder(root, 6, 48)
    cases = [f"c{i}" for i in range(6)]
    folds = [{"test": [cases[i]], "validation": [cases[i + 1]]} for i in range(5)]
    (root / "splits.json").write_text(json.dumps({"cxr-five-fold": folds}))


def nodules(root: Path) -> None:
    """A data folder with four annotators and the partition of the recipe `lidc`."""
    from cdal.datasets.phantoms import write_phantoms

    write_phantoms(root, 6, size=128, raters=4)
    parts = ["train"] * 4 + ["validation", "test"]
    rows = [f"phantom_{i:04d},{part}" for i, part in enumerate(parts)]
    (root / "cases.csv").write_text("\n".join(["case,split", *rows]))


def annotated(root: Path) -> None:
    """A data folder whose labels are outlines."""
    from cdal.datasets.convert import convert_folder

    disc_folder(root.with_name(f"{root.name}-masks"), 6, 48)
    convert_folder(root.with_name(f"{root.name}-masks"), root, "geojson")


def recipe_of(dims: int, channels: int = 1) -> Recipe:
    """The small recipe for volumes or pictures."""
    small = small_recipe(steps=2)
    if dims == 3:
        data = replace(
            small.data, spatial_dims=3, size=(16,) * 3, spacing=(1.0,) * 3, flips=(0,), shift=1.0
        )
        return replace(small, data=data)
    return replace(small, data=replace(small.data, channels=channels))


def model(dims: int, channels: int = 1) -> Callable[[Path], None]:
    """What makes a model with random weights: a file, or a run folder."""

    def make(path: Path) -> None:
        from helpers.ensembles import member, run

        classes = ("background", "Anterior", "Posterior") if dims == 3 else ("background", "lesion")
        recipe = recipe_of(dims, channels)
        given = {"recipe": recipe, "classes": classes, "channels": channels}
        if path.suffix == ".safetensors":
            member(path, **given)
        else:
            run(path, **given)

    return make


def plain(path: Path) -> None:
    """A run folder with a model of volumes that draws nothing, whose graph is made quickly."""
    from helpers.ensembles import plain_recipe, run

    data = {"spatial_dims": 3, "size": (16,) * 3, "spacing": (1.0,) * 3, "flips": (0,)}
    run(path, recipe=plain_recipe(**data), classes=("background", "Anterior", "Posterior"))


def results(path: Path) -> None:
    """A folder that `cdal predict` wrote."""
    from cdal.inference.predict import predict

    images, weights = path.with_name("images-of-results"), path.with_name("model-of-results")
    pictures(images)
    model(2)(weights)
    predict(weights, [images], path, save=["mask", "uncertainty"])


def reviewed(path: Path) -> None:
    """Accept the masks of a folder of results but four, which are corrected."""
    from cdal.datasets.reviews import REVIEWED, keep_review

    rows = json.loads((path / "predictions.json").read_text())["predictions"]
    (path / REVIEWED).mkdir(exist_ok=True)
    for i, row in enumerate(rows):
        name = Path(row["input"]).name
        if i < 4:
            mask = np.asarray(Pillow.open(path / row["mask"]))
            picture(path / REVIEWED / name, np.roll(mask, 1, axis=0))
        keep_review(path, name, row["input"], "fix" if i < 4 else "accept", row["mask"])


def recipe_file(path: Path) -> None:
    """A recipe in a file."""
    from cdal.recipes.recipe import to_yaml

    path.write_text(to_yaml(recipe_of(2)))


def study(root: Path) -> None:
    """A folder with two series of a patient."""
    planes = np.arange(6 * 20 * 24).reshape(6, 20, 24)
    for number, name in enumerate(["T1", "T2"], start=1):
        write_series(root / f"{number}", planes, description=name, number=number)


def radiograph(path: Path) -> None:
    """A picture in DICOM, which lies nowhere in space."""
    (file,) = new_slices(
        "1.2.840.10008.5.1.4.1.1.1.1", "DX", [np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)]
    )
    file.save_as(path, enforce_file_format=True)


def slide(path: Path) -> None:
    """A whole slide, as far as it is one."""
    shown = np.random.default_rng(0).integers(0, 200, (64, 80, 3), np.uint8)
    about = "Aperio Image Library v1\n80x64 |AppMag = 20|MPP = 0.5"
    tifffile.imwrite(
        path, shown, tile=(16, 16), photometric="rgb", compression="jpeg", description=about
    )


MADE: dict[str, Callable[[Path], object]] = {
    **dict.fromkeys(["scan.nii.gz", "volume.nii.gz", "scan-2.nii.gz"], scan),
    **dict.fromkeys(["new.png", "chest.png", "picture.jpg", "picture.png"], slice_),
    **dict.fromkeys(["scans", "folder"], scans),
    **dict.fromkeys(["images", "IMAGES", "unlabelled"], pictures),
    **dict.fromkeys(["runs/mine", "runs/one", "runs/two", "runs/a", "runs/b"], model(2)),
    **dict.fromkeys(["MODEL", "other.safetensors"], model(2)),
    **dict.fromkeys(["recipe.yaml", "RECIPE"], recipe_file),
    "big.tif": lambda path: slice_(path, 64, 3),
    "slide.svs": slide,
    "dicom_folder": lambda path: write_series(path, np.arange(6 * 20 * 24).reshape(6, 20, 24)),
    "study": study,
    "slice.dcm": lambda path: (
        write_series(path.parent / "one", np.arange(480).reshape(1, 20, 24))
        .joinpath("IM0000")
        .rename(path)
    ),
    "radiograph.dcm": radiograph,
    "results": results,
    "runs/hippocampus": model(3),
    "my-cases": lambda path: volumes(path, 10),
}
"""What is made of a name that is not there."""

OTHERWISE: dict[tuple[str, str], Callable[[Path], object]] = {
    ("guides/dicom.md", "MODEL"): model(3),
    ("start/dicom-study.md", "MODEL"): model(3),
    ("guides/large-images.md", "MODEL"): model(2, channels=3),
    ("guides/export.md", "hippocampus"): plain,
    ("guides/prediction.md", "MODEL"): model(3),
    ("guides/python.md", "runs/mine"): lambda path: None,
    ("guides/python.md", "results"): lambda path: None,
}
"""The same, where a page means something else by a name."""

DATA: tuple[tuple[str, Callable[[Path], object]], ...] = (
    ("cxr", radiographs),
    ("lidc", nodules),
    ("hippocampus", volumes),
    ("guides/annotations.md", annotated),
    ("guides/python.md", volumes),
    ("", disc_folder),
)
"""The data folder of a command: the first whose word stands in the command or names the page."""

_SHORT = "--training.batch 2 --training.precision 32 --training.validation_cases 2"
_TINY = f"{_SHORT} --segmenter.channels=[4,6,8] --segmenter.denoiser_channels=8"
_FOLD = f"{_SHORT} --folds 0 --budget 1steps --segmenter.channels=[4,6,8]"
SMALLER: tuple[tuple[str, str], ...] = (
    (r"train .*--from", "--steps 2 --training.batch 2"),
    (r"train recipe.yaml", "--steps 2"),
    (r"train .*--dry-run", ""),
    (r"train hippocampus --segmenter", f"{_SHORT} --steps 2 --data.size=[16,16,16]"),
    (r"train .*--segmenter", f"{_SHORT} --steps 2"),
    (r"train cxr", f"{_TINY} --steps 2 --minutes 1 --data.size=[32,32] --data.resize=[32,32]"),
    (r"train hippocampus", f"{_TINY} --steps 2 --data.size=[16,16,16]"),
    (r"train ", f"{_TINY} --steps 2"),
    (
        r"crossval .*--out runs/cv",
        f"{_TINY} --folds 0,1 --budget 2steps --data.size=[16,16,16] --segmenter.votes 2",
    ),
    (r"crossval .*dynunet", f"{_FOLD} --segmenter cdal,cdal-unet"),
    (r"crossval ", f"{_FOLD} --data.size=[16,16,16]"),
    (r"experiment .*--data", "--dry-run"),
    (r"data phantoms", "--count 8"),
    (r"demo", "--minutes 0.02"),
    (r"(serve|view) ", "--port 0"),
    (r"(predict|evaluate) cxr", "--votes 2 --no-mirror"),
    (r"evaluate (hippocampus|exported)", "--votes 2 --split all"),
    (r"calibrate hippocampus", "--votes 2"),
)
"""What is added to the first kind of command that fits."""

CODE: tuple[tuple[str, str, str], ...] = (
    ("guides/python.md", '"training.steps": 1000', '"training.steps": 1, "data.size": [16] * 3'),
    ("guides/python.md", 'with_segmenter(recipe, "unet")', 'with_segmenter(recipe, "cdal-unet")'),
)
"""What a page's Python says, and what is run."""


def smaller(words: Sequence[str]) -> list[str]:
    """The words that make a command of cdal small."""
    command = shlex.join(words)
    return next((shlex.split(more) for kind, more in SMALLER if re.match(kind, command)), [])


def smaller_code(page: str, code: str) -> str:
    """The Python of a page, with less to do."""
    for where, told, done in CODE:
        code = code.replace(told, done) if where == page else code
    return code


class StandIns:
    """What is made in the folder of a page.

    Args:
        folder: the working directory.
        page: path of the page below `docs`.
    """

    def __init__(self, folder: Path, page: str) -> None:
        self.folder, self._page = folder, page
        self._running = ExitStack()
        self._address = ""

    def need(self, names: Sequence[str]) -> None:
        """Make what is named and not there."""
        for name in names:
            path = self.folder / name
            if name == "DATA":
                self._data(self._page)
            make = OTHERWISE.get((self._page, name.rstrip("/")), MADE.get(name.rstrip("/")))
            if make and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                make(path)

    def need_for(self, words: Sequence[str]) -> None:
        """Make what a command of cdal reads."""
        outputs = {words[i + 1] for i, word in enumerate(words[:-1]) if word == "--out"}
        if "--data" in words or words[:1] == ["check"] or words[:2] == ["data", "convert"]:
            self._data(f"{self._page} {shlex.join(words)}")
        self.need([word for word in words if word not in {*outputs, "DATA"}])
        if "--reviewed" in words:
            reviewed(self.folder / "results")

    def _data(self, text: str) -> None:
        """Put the data folder that a command is about at `DATA`, unless a block has made one."""
        link = self.folder / "DATA"
        if link.is_dir() and not link.is_symlink():
            return
        make = next(make for word, make in DATA if word in text)
        made = self.folder / "made" / make.__name__
        if not made.exists():
            make(made)
        link.unlink(missing_ok=True)
        link.symlink_to(made)

    def ask(self, words: Sequence[str]) -> str:
        """What curl prints that asks a server with the hippocampus model."""
        from helpers.blocks import run_curl
        from helpers.serving import served

        self.need([word.removeprefix("file=@") for word in words])
        if not self._address:
            server = served(self.folder / "server", ["hippocampus"])
            self._address = self._running.enter_context(server).address
        return run_curl([*words], self._address)

    def close(self) -> None:
        """End the server, if there is one."""
        self._running.close()
