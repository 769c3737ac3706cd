"""Data folders of every layout, with the same discs in each."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from helpers.files import disc, picture, save_nifti


def image(i: int) -> np.ndarray:
    """Noise with a disc, another one for each number."""
    noise = np.random.default_rng(i).integers(0, 60, size=(32, 32))
    return (noise + 120 * disc(32, 6 + i % 4)).astype(np.uint8)


def label(i: int, value: int = 1) -> np.ndarray:
    """The disc of an image."""
    return disc(32, 6 + i % 4, value)


def pair(image_path: Path, label_path: Path, i: int) -> None:
    """Write an image and its label, as pictures or as volumes of one slice."""
    for path, array in ((image_path, image(i)), (label_path, label(i))):
        if ".nii" in path.name:
            save_nifti(path, array[..., None].repeat(4, axis=2))
        else:
            picture(path, array)


def write_table(path: Path, rows: list[Mapping[str, str]], delimiter: str = ",") -> Path:
    """Write a table with the columns of its first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def pairs(root: Path, count: int = 6) -> Path:
    for i in range(count):
        pair(root / f"images/c{i}.png", root / f"labels/c{i}.png", i)
    return root


def nnunet(root: Path, count: int = 6) -> Path:
    for i in range(count):
        pair(root / f"imagesTr/c{i}_0000.nii.gz", root / f"labelsTr/c{i}.nii.gz", i)
    return root


def decathlon(root: Path, count: int = 6) -> Path:
    for i in range(count):
        pair(root / f"imagesTr/c{i}.nii.gz", root / f"labelsTr/c{i}.nii.gz", i)
    return root


def parts(root: Path, count: int = 6) -> Path:
    for i in range(count):
        part = ("train", "train", "train", "train", "val", "test")[i % 6]
        pair(root / part / f"images/c{i}.png", root / part / f"masks/c{i}.png", i)
    return root


def monailabel(root: Path, count: int = 6) -> Path:
    for i in range(count):
        pair(root / f"c{i}.nii.gz", root / f"labels/final/c{i}.nii.gz", i)
    (root / "datastore_v2.json").write_text('{"name": "new-dataset", "objects": {}}')
    return root


def bids(root: Path, count: int = 6) -> Path:
    for i in range(count):
        anat = f"sub-{i}/anat/sub-{i}"
        pair(
            root / f"{anat}_T1w.nii.gz",
            root / f"derivatives/manual/{anat}_dseg.nii.gz",
            i,
        )
    return root


def flat(root: Path, count: int = 6) -> Path:
    for i in range(count):
        pair(root / f"c{i}.png", root / f"c{i}_mask.png", i)
    return root


def table(root: Path, count: int = 6) -> Path:
    rows = []
    for i in range(count):
        pair(root / f"scans/s{i}.png", root / f"drawn by/{i}.png", i)
        rows.append({"image": f"scans/s{i}.png", "label": f"drawn by/{i}.png", "case": f"c{i}"})
    return write_table(root / "list.csv", rows)


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "pairs": pairs,
    "nnU-Net": nnunet,
    "Decathlon": decathlon,
    "parts": parts,
    "MONAI Label": monailabel,
    "BIDS": bids,
    "flat": flat,
    "table": table,
}
"""A function for each layout that writes a folder of it and returns the path to give."""
