"""Listing the cases of a data folder.

A data folder is a Decathlon folder, or it has `images` and `labels` (or `masks`) with equal names:

    images/NAME.ext           one file per image; or one per channel, NAME_0000.ext, NAME_0001.ext,
                              ..., as in nnU-Net
    images/NAME/              a DICOM series
    labels/NAME.ext           a label image; names such as NAME_mask.ext and NAME_seg.ext also work
    labels/NAME_rater0.ext    ... or one label image per annotator
    labels/NAME.geojson       ... or an annotation, see `cdal.imaging.annotations`
    annotations.json          ... or one file for all images (COCO, CVAT), also in `labels`
    labels/NAME_CLASS.ext     ... or one mask per class; labels/CLASS/NAME.ext also works
    dataset.json              names of the classes and their values in the labels:
                              {"labels": {"background": 0, "lung": 255}}
    cases.csv                 properties of cases: case, patient, stratum, split (train or test)
    splits.json               partitions by name:
                              {"five-fold": [{"test": [NAME, ...], "validation": [...]}, ...]}

Only images and labels are required.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdal.datasets.colours import value_of
from cdal.datasets.labels import with_values
from cdal.datasets.layout import Annotation, CaseFiles, DataFolder
from cdal.datasets.shared import is_shared, shared_labels
from cdal.imaging.annotations import label_suffix_of
from cdal.imaging.channels import CHANNEL
from cdal.imaging.formats import SUFFIXES, holds_series, suffix_of
from cdal.runtime.errors import UserError, some

_LAYOUTS = (("imagesTr", "labelsTr"), ("images", "labels"), ("images", "masks"))
_RATER = re.compile(r"^rater\d+$")

_MOST_DECLARED = 256
"""Largest number of classes in an 8 bit mask."""

_MASK_WORDS = {
    "mask",
    "masks",
    "label",
    "labels",
    "seg",
    "segmentation",
    "gt",
    "manual",
    "annotation",
}


def open_folder(root: Path) -> DataFolder:
    """List the cases of a data folder.

    No images are opened. Labels are opened only if the folder does not declare its classes.

    Raises:
        UserError: the folder is missing, empty or has an unknown layout; an image has no label, or
            a label has no image.
    """
    folder = list_folder(root)
    if folder.problems:
        raise UserError("\n".join(folder.problems))
    return with_values(folder)


def list_folder(root: Path) -> DataFolder:
    """List the cases of a data folder, and collect problems instead of raising them.

    The folder is the same as that of `open_folder`, except that files without partner are listed in
    `problems` and undeclared classes stay unknown.

    Raises:
        UserError: the folder is missing or has an unknown layout, or one of its tables cannot be
            used.
    """
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder. Give the data folder, which holds imagesTr and labelsTr, or "
            "images and labels."
        )
    beside = [path for path in sorted(root.iterdir()) if is_shared(path)]
    layout = next(
        ((a, b) for a, b in _LAYOUTS if (root / a).is_dir() and (root / b).is_dir()), None
    ) or next(((a, ".") for a, _ in _LAYOUTS if beside and (root / a).is_dir()), None)
    if layout is None:
        expected = ", ".join(f"{a}/ and {b}/" for a, b in _LAYOUTS)
        contents = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        raise UserError(f"{root}: expected {expected}; it holds {contents}.")
    problems: list[str] = []
    in_root = layout[1] == "."
    label_files = {} if in_root else _by_stem(root / layout[1], problems)
    images = _images(_by_stem(root / layout[0], problems, series=True), set(label_files), problems)
    shared = {s: p for s, p in label_files.items() if _owner(s, set(images))[0] is None}
    shared = {stem: path for stem, path in shared.items() if is_shared(path)}
    labels, unmatched_labels = shared_labels([*beside, *shared.values()], images, problems), []
    if not in_root:
        own = {stem: path for stem, path in label_files.items() if stem not in shared}
        single, unmatched_labels = _labels(root / layout[1], own, set(images), problems)
        problems += [
            f"{name} has a label of its own and one in a file of several images. Keep one."
            for name in sorted(set(single) & set(labels))
        ]
        labels |= single
    if not images:
        problems.insert(
            0, f"{root / layout[0]} holds no image. Expected files ending in {', '.join(SUFFIXES)}."
        )
    else:
        _note_partners(
            problems, sorted(set(images) - set(labels)), "image without a label", root / layout[1]
        )
    _note_partners(problems, sorted(unmatched_labels), "label without an image", root / layout[0])
    cases = tuple(
        CaseFiles(name, images[name], labels[name]) for name in sorted(set(images) & set(labels))
    )
    declared = _json(root / "dataset.json")
    classes, values = _declared_classes(declared, root / "dataset.json")
    licence = str(declared.get("licence", declared.get("license", "")))
    about, partitions = _about(root / "cases.csv"), _partitions(root / "splits.json")
    return DataFolder(root, cases, classes, values, licence, about, partitions, tuple(problems))


def _by_stem(folder: Path, problems: list[str], series: bool = False) -> dict[str, Path]:
    """Return the files of a folder by their names without suffix.

    Args:
        folder: folder to list; subfolders are not searched.
        problems: list to which names that occur twice are added.
        series: whether to include subfolders that contain a DICOM series, by their names.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        suffix = None
        if path.is_file():
            suffix = suffix_of(path) if series else label_suffix_of(path)
        if suffix:
            stem = path.name[: -len(suffix)]
        elif series and path.is_dir() and holds_series(path):
            stem = path.name
        else:
            continue
        if stem in files:
            problems.append(
                f"{files[stem]} and {path} have the same name but for the suffix. Remove one of "
                "them."
            )
        else:
            files[stem] = path
    return files


def _images(
    files: Mapping[str, Path], label_stems: set[str], problems: list[str]
) -> dict[str, tuple[Path, ...]]:
    """Return the image files of each case.

    If images are called `NAME_0000`, `NAME_0001`, ... and labels `NAME`, the files of one name are
    the channels of one case.
    """
    matches = {stem: match for stem in files if (match := CHANNEL.match(stem))}
    labelled = sum(match["name"] in label_stems for match in matches.values())
    if len(matches) < len(files) or 2 * labelled < len(files) or set(files) & label_stems:
        return {stem: (path,) for stem, path in files.items()}
    grouped: dict[str, dict[str, Path]] = {}
    for stem, match in matches.items():
        grouped.setdefault(match["name"], {})[match["channel"]] = files[stem]
    channels = sorted({channel for case in grouped.values() for channel in case})
    for name, case in grouped.items():
        if missing := [channel for channel in channels if channel not in case]:
            problems.append(
                f"{name} has no channel {', '.join(missing)}, which other images have. Add its "
                f"file, or remove {name}."
            )
    return {
        name: tuple(case[channel] for channel in sorted(case)) for name, case in grouped.items()
    }


def _labels(
    folder: Path, files: Mapping[str, Path], names: set[str], problems: list[str]
) -> tuple[dict[str, tuple[Annotation, ...]], list[str]]:
    """Return the annotations of each case, and the names of labels without an image."""
    plain: dict[str, list[Path]] = {}
    raters: dict[str, list[Path]] = {}
    masks: dict[str, list[tuple[str, Path]]] = {}
    unmatched_labels = []
    for stem, path in files.items():
        name, rest = _owner(stem, names)
        if name is None:
            unmatched_labels.append(stem)
        elif not rest or rest.lower() in _MASK_WORDS:
            plain.setdefault(name, []).append(path)
        elif _RATER.match(rest):
            raters.setdefault(name, []).append(path)
        else:
            masks.setdefault(name, []).append((rest, path))
    for sub in sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    ):
        for stem, path in _by_stem(sub, problems).items():
            name, rest = _owner(stem, names)
            if name is None or (rest and rest.lower() not in _MASK_WORDS):
                unmatched_labels.append(f"{sub.name}/{stem}")
            else:
                masks.setdefault(name, []).append((sub.name, path))
    labels: dict[str, tuple[Annotation, ...]] = {}
    for name in names & {*plain, *raters, *masks}:
        kinds = [kind for kind in (plain, raters, masks) if name in kind]
        if len(kinds) > 1 or len(plain.get(name, ())) > 1:
            paths = [
                *plain.get(name, ()),
                *raters.get(name, ()),
                *[path for _, path in masks.get(name, ())],
            ]
            problems.append(
                f"{name} has labels of several kinds: {', '.join(p.name for p in paths[:4])}. Keep "
                "one label image, or one for each annotator, or one mask for each class."
            )
        single = [Annotation((("", path),)) for path in plain.get(name, raters.get(name, ()))]
        labels[name] = tuple(single) or (Annotation(tuple(sorted(masks[name]))),)
    return labels, unmatched_labels


def _owner(stem: str, names: set[str]) -> tuple[str | None, str]:
    """Split the name of a label into the name of its image and the rest.

    The longest matching image name is used. The rest is the text after the underscore or hyphen.

    Returns:
        The name of the image (`None` if there is none) and the rest.
    """
    if stem in names:
        return stem, ""
    cuts = [i for i, character in enumerate(stem) if character in "_-"]
    name = next((stem[:cut] for cut in reversed(cuts) if stem[:cut] in names), None)
    return name, stem[len(name) + 1 :] if name else ""


def _note_partners(problems: list[str], names: list[str], what: str, folder: Path) -> None:
    if names:
        problems.append(
            f"{what}: {some(names)}. Put the missing files of the same name into {folder}, or "
            "remove these."
        )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        declared = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(declared, dict):
        raise UserError(f"{path}: expected a JSON object; it holds a {type(declared).__name__}.")
    return declared


def _declared_classes(
    declared: Mapping[str, Any], path: Path
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names and values of the classes in dataset.json.

    Both `{"0": "background", ...}` and `{"background": 0, ...}` are accepted, also with colours,
    `{"lung": "#ff0000"}`.
    """
    labels = declared.get("labels")
    if labels is None:
        return (), ()
    if isinstance(labels, dict):
        labels = {name: value_of(value) for name, value in labels.items()}
    try:
        by_name = all(isinstance(value, int) for value in labels.values())
        numbered = (
            {value: key for key, value in labels.items()}
            if by_name
            else {int(k): v for k, v in labels.items()}
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f'{path}: expected "labels": {{"background": 0, "name": 1, ...}}; it holds {labels!r}.'
        ) from error
    names = {str(name) for name in numbered.values()}
    if (
        len(numbered) < 2
        or len(names) < len(labels)
        or len(numbered) < len(labels)
        or 0 not in numbered
        or min(numbered) < 0
    ):
        raise UserError(
            f"{path}: expected two or more labels of different names and values, 0 for the "
            f"background; it declares {labels!r}."
        )
    if len(numbered) > _MOST_DECLARED:
        raise UserError(
            f"{path}: expected at most {_MOST_DECLARED} labels; it declares {len(numbered)}."
        )
    values = tuple(sorted(numbered))
    return tuple(str(numbered[value]) for value in values), values


def _partitions(path: Path) -> dict[str, list[dict[str, list[str]]]]:
    partitions = _json(path)
    for name, folds in partitions.items():
        rows = folds if isinstance(folds, list) and folds else [None]
        for fold in rows:
            lists = fold.values() if isinstance(fold, dict) and "test" in fold else [None]
            if not all(
                isinstance(names, list) and all(isinstance(case, str) for case in names)
                for names in lists
            ):
                raise UserError(
                    f'{path}: expected {{"{name}": [{{"test": [names], "train": [names], '
                    '"validation": [names]}}, ...]}}, of '
                    f"which test is needed; it holds {folds!r:.80}."
                )
    return partitions


def _about(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}.") from error
    rows = [
        {
            key.strip(): value.strip()
            for key, value in row.items()
            if key and value and value.strip()
        }
        for row in rows
    ]
    if any("case" not in row for row in rows):
        columns = ", ".join(rows[0])
        raise UserError(
            f"{path}: expected a column `case` (with a name in each row) beside patient, stratum "
            f"or split; it has {columns}."
        )
    about = {row["case"]: row for row in rows}
    if len(about) < len(rows):
        duplicate = next(
            row["case"]
            for i, row in enumerate(rows)
            if any(other["case"] == row["case"] for other in rows[:i])
        )
        raise UserError(f"{path}: expected one row for each case; {duplicate} has several.")
    return about
