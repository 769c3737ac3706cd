"""A data store of MONAI Label.

    NAME.ext                  an image
    labels/final/NAME.ext     its label, as an annotator submitted it
    labels/original/NAME.ext  its label, as a model proposed it
    datastore_v2.json         the store's own record, which is not needed

A store may hold images without a label: these are left out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cdal.datasets.layout import Listing
from cdal.datasets.layouts.files import by_stem, entries, image_stem, label_stem
from cdal.datasets.layouts.pairs import annotations_of, joined, paired
from cdal.imaging.formats import holds_series
from cdal.runtime.errors import first_few

_STORES = ("final", "original")


def readings(root: Path) -> list[str]:
    """Return the reading as a data store, in words: submitted labels, else proposed ones."""
    folder = _labels(root)
    return [f"images in {root.name}/, labels in labels/{folder.name}/"] if folder else []


def list_cases(root: Path) -> Listing:
    """List the images that have a label; a store may have others."""
    problems: list[str] = []
    folder = _labels(root)
    assert folder is not None  # only stores with labels have this layout
    images = {stem: (path,) for stem, path in by_stem(root, problems, series=True).items()}
    images.pop("labels", None)
    labels, unmatched = annotations_of(by_stem(folder, problems, label_stem), set(images), problems)
    passed_over = []
    if without := sorted(set(images) - set(labels)):
        passed_over.append(f"{root}: images without a label in {folder}: {first_few(without)}.")
    if folder.name == "original":
        passed_over.append(
            f"{folder}: the labels are those that a model proposed; nobody submitted one into "
            f"{folder.with_name('final')}. Correct them first, if they are not yours."
        )
    elif others := [path.name for path in _files(folder.with_name("original"))]:
        passed_over.append(f"{folder.with_name('original')}: proposed labels: {first_few(others)}.")
    labelled = {name: images[name] for name in images if name in labels}
    listing = paired(labelled, joined(labels, problems), unmatched, root, folder, problems)
    return replace(listing, passed_over=tuple(passed_over))


def _labels(root: Path) -> Path | None:
    folders = [root / "labels" / name for name in _STORES]
    labels = next((folder for folder in folders if _files(folder)), None)
    return labels if labels and _images(root) else None


def _images(root: Path) -> list[Path]:
    return [
        path
        for path in entries(root)
        if image_stem(path) or (path.is_dir() and path.name != "labels" and holds_series(path))
    ]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_file() and label_stem(path)]
