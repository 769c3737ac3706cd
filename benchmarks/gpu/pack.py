"""Pack wheels, data and the code revision for the GPU machine into `benchmarks/gpu/packed`.

    python benchmarks/gpu/pack.py --data DATA

DATA holds the files of the data owners in `hippocampus`, `monuseg`, `cxr` and `lidc_nodules`.
Images are packed at the size that the steps need. The script prints for each step how much is
copied to the machine.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from plan import LIMIT, PACKED, ROOT, STEPS, carried, command

from cdal.datasets.folder import open_folder
from cdal.datasets.public import prepare
from cdal.datasets.reading import read_case
from cdal.imaging.formats import write_label
from cdal.imaging.grid import label_to_grid, to_grid
from cdal.imaging.image import Image
from cdal.recipes.settings import DataSettings
from cdal.runtime.files import replacing
from cdal.runtime.version import revision

WHEELS = (
    "monai",
    "nibabel",
    "pydicom",
    "jsonargparse",
    "lightning-fabric",
    "rich",
    "markdown-it-py",
    "mdurl",
    "pygments",
)
"""Packages that the GPU machine lacks.

All are pure Python, so that a rehearsal can use the same files.
"""

PYTHON = "3.12"

SIDES = {"monuseg": 512, "cxr": 256}
"""Side of the packed pictures in pixels, as in the paper's protocols."""

EVERY = {"hippocampus": 40, "monuseg": 5, "cxr": 16, "lidc_nodules": 100}
"""For a rehearsal, only every n-th case is packed."""

PREPARED = ("lidc_nodules",)
"""Sets whose owners' files are a data folder of small pictures already."""


def pack_wheels(folder: Path) -> None:
    """Download the wheels, and write down the revision of this code."""
    folder.mkdir(parents=True)
    options = [
        "--no-deps",
        "--python-version",
        PYTHON,
        "--platform",
        "manylinux2014_x86_64",
        "--only-binary=:all:",
    ]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-qq", *options, "--dest", str(folder), *WHEELS],
        check=True,
    )
    binary = [path.name for path in folder.glob("*.whl") if not path.name.endswith("-none-any.whl")]
    if binary:
        raise SystemExit(
            f"expected wheels of pure Python; {', '.join(binary)} is for one platform."
        )
    (folder / "revision.txt").write_text(revision() + "\n", encoding="utf-8")


def pack_data(name: str, source: Path, target: Path, tiny: bool) -> None:
    """Convert the owners' files into a data folder, with pictures at the size of `SIDES`."""
    if name in PREPARED:
        copy_cases(source, target, EVERY[name] if tiny else 1)
        return
    with tempfile.TemporaryDirectory() as scratch:
        chosen = some_of(source, Path(scratch) / "some", EVERY[name]) if tiny else source
        prepared = Path(scratch) / "prepared"
        prepare(name, str(chosen), prepared)
        if name in SIDES:
            shrink(prepared, SIDES[name])
        shutil.copytree(prepared, target)


def copy_cases(source: Path, target: Path, every: int) -> None:
    """Copy every n-th case of a data folder of pictures with several annotators."""
    head, *rows = (source / "cases.csv").read_text(encoding="utf-8").splitlines()
    chosen = rows[::every]
    cases = {row.split(",")[0] for row in chosen}
    for folder in ("images", "masks"):
        (target / folder).mkdir(parents=True)
        for path in sorted((source / folder).iterdir()):
            if path.stem.split("_rater")[0] in cases:
                shutil.copyfile(path, target / folder / path.name)
    (target / "cases.csv").write_text("\n".join([head, *chosen, ""]), encoding="utf-8")
    shutil.copyfile(source / "dataset.json", target / "dataset.json")


def some_of(source: Path, target: Path, every: int) -> Path:
    """Link every n-th file of each folder, and return the folder of the links.

    Images and labels stay paired, because they have the same names in the same order.
    """
    for folder in sorted(
        {path.parent for path in source.rglob("*.*") if path.suffix in (".png", ".gz")}
    ):
        (target / folder.relative_to(source)).mkdir(parents=True)
        for path in sorted(folder.iterdir())[::every]:
            (target / path.relative_to(source)).symlink_to(path.resolve())
    return target


def shrink(folder: Path, side: int) -> None:
    """Resize the images and labels of a data folder to `side` x `side`.

    Labels are resized as probabilities, and each pixel gets the most probable class.
    """
    settings = DataSettings(spatial_dims=2, size=(side, side), resize=(side, side))
    opened = open_folder(folder)
    for case in opened.cases:
        image, labels = read_case(case, opened)
        small = np.round(to_grid(image, settings).array).clip(0, 255).astype(np.uint8)
        write_png(case.image, small)
        label = label_to_grid(labels[0], len(opened.classes), settings)
        write_label(
            folder / "labels" / case.name, label, Image(small[:1].astype(np.float32), suffix=".png")
        )
    # The instance masks still have the full size, and no step uses them.
    shutil.rmtree(folder / "instances", ignore_errors=True)


def write_png(path: Path, array: np.ndarray) -> None:
    """Write a picture `[C, H, W]` as an optimised PNG file."""
    picture = Pillow.fromarray(array[0] if len(array) == 1 else np.moveaxis(array, 0, -1))
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def size_of(path: Path) -> int:
    """Total size of the files below a folder, in bytes."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def tree_size() -> int:
    """Total size of the files that git does not ignore, in bytes."""
    listing = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    return sum((ROOT / name).stat().st_size for name in names if name and (ROOT / name).is_file())


def main() -> None:
    """Pack everything, and print the sizes and the commands of the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with the owners' files in hippocampus, monuseg, cxr and lidc_nodules",
    )
    parser.add_argument("--tiny", action="store_true", help="pack only some cases, for a rehearsal")
    options = parser.parse_args()
    shutil.rmtree(PACKED, ignore_errors=True)
    pack_wheels(PACKED / "wheels")
    for name in EVERY:
        pack_data(name, options.data / name, PACKED / name, options.tiny)
    tree = tree_size()
    sizes = {path.name: size_of(path) for path in sorted(PACKED.iterdir())}
    print(
        f"working tree: {tree / 2**20:.1f} MiB",
        *(f"{name}: {size / 2**20:.1f} MiB" for name, size in sizes.items()),
        sep="\n",
    )
    for step in STEPS:
        folders = carried([step])
        total = tree + sum(sizes[folder.name] for folder in folders)
        if total > LIMIT:
            raise SystemExit(
                f"{step}: {total / 2**20:.1f} MiB to copy; the limit is {LIMIT / 2**20:.0f} MiB."
            )
        names = " ".join(str(folder.relative_to(ROOT)) for folder in folders)
        print(
            f"{step}: {total / 2**20:.1f} MiB with the tree; carry {names}; run {command([step])}"
        )


if __name__ == "__main__":
    main()
