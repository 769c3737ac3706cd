"""The data folder: a Decathlon folder, or `images` beside `labels` (or `masks`) with equal names.

A `dataset.json` names the classes. Several annotators of one image are `NAME_rater0`, `NAME_rater1`, ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.data.formats import SUFFIXES, stem_of, suffix_of
from cdal.errors import UserError

_LAYOUTS = (("imagesTr", "labelsTr"), ("images", "labels"), ("images", "masks"))
_RATER = re.compile(r"^(?P<name>.+)_rater\d+$")


@dataclass(frozen=True)
class CaseFiles:
    """One case on disk.

    Attributes:
        name: the image's name without suffix.
        image: its file.
        labels: one file, or one for each annotator.
    """

    name: str
    image: Path
    labels: tuple[Path, ...]


@dataclass(frozen=True)
class DataFolder:
    """What a data folder holds.

    Attributes:
        root: where it is.
        cases: sorted by name.
        classes: names, the background first.
        licence: what `dataset.json` says of it, or nothing.
    """

    root: Path
    cases: tuple[CaseFiles, ...]
    classes: tuple[str, ...]
    licence: str = ""


def open_folder(root: Path) -> DataFolder:
    """List a data folder's cases; no image is opened.

    Raises:
        UserError: the folder is missing, empty, or of another form; an image has no label or a label no image.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder. Give the data folder, which holds imagesTr and labelsTr, or images and labels.")
    layout = next(((a, b) for a, b in _LAYOUTS if (root / a).is_dir() and (root / b).is_dir()), None)
    if layout is None:
        expected = ", ".join(f"{a}/ and {b}/" for a, b in _LAYOUTS)
        found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        raise UserError(f"{root}: expected {expected}; it holds {found}.")
    images = _by_stem(root / layout[0])
    labels: dict[str, list[Path]] = {}
    for stem, path in _by_stem(root / layout[1]).items():
        rater = _RATER.match(stem)
        name = rater["name"] if rater and stem not in images else stem
        labels.setdefault(name, []).append(path)
    if not images:
        raise UserError(f"{root / layout[0]} holds no image. Expected files ending in {', '.join(SUFFIXES)}.")
    _need_partners(sorted(set(images) - set(labels)), "image without a label", root / layout[1])
    _need_partners(sorted(set(labels) - set(images)), "label without an image", root / layout[0])
    cases = tuple(CaseFiles(name, images[name], tuple(labels[name])) for name in sorted(images))
    declared = _declared(root / "dataset.json")
    licence = str(declared.get("licence", declared.get("license", "")))
    return DataFolder(root, cases, _class_names(declared, root / "dataset.json"), licence)


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not suffix_of(path) or path.name.startswith(".") or not path.is_file():
            continue
        stem = stem_of(path)
        if stem in files:
            raise UserError(f"{files[stem]} and {path} have the same name but for the suffix. Take one of them away.")
        files[stem] = path
    return files


def _need_partners(names: list[str], what: str, folder: Path) -> None:
    if names:
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise UserError(f"{what}: {listed}. Put the missing files of the same name into {folder}, or take these away.")


def _declared(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(declared, dict):
        raise UserError(f"{path}: expected a JSON object; it holds a {type(declared).__name__}.")
    return declared


def _class_names(declared: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """The classes declared, `{"0": "background", ...}` or `{"background": 0, ...}`; where none are, two."""
    labels = declared.get("labels", {"0": "background", "1": "foreground"})
    try:
        by_name = all(isinstance(value, int) for value in labels.values())
        numbered = {value: key for key, value in labels.items()} if by_name else {int(k): v for k, v in labels.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f'{path}: expected "labels": {{"0": "background", "1": "name", ...}}; it holds {labels!r}.') from error
    if sorted(numbered) != list(range(len(numbered))) or len(numbered) < 2:
        raise UserError(f"{path}: expected labels numbered 0, 1, 2, ... with 0 the background; it declares {sorted(numbered)}.")
    return tuple(str(numbered[i]) for i in range(len(numbered)))
