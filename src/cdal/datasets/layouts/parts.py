"""Subfolders for the parts, each with images and labels.

    train/                    `images` and `labels`, or images and masks side by side
    validation/               the same, if you like; also `val`
    test/                     the same

The split is given by the folders; no name may be in two of them.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from cdal.datasets.layout import CaseFiles, Listing
from cdal.datasets.layouts import dicom, flat, pairs
from cdal.datasets.layouts.files import subfolders
from cdal.datasets.tables import PARTS

_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def readings(root: Path) -> list[str]:
    """Return the reading as parts, in words, if there are two or more."""
    found = _parts(root)
    if len({part for part, _ in found}) < 2:
        return []
    inside = sorted({words for _, folder in found for _, words in _inside(folder)})
    names = ", ".join(f"{folder.name}/" for _, folder in found)
    return [f"the split is {names}, each with {' or '.join(inside)}"] if inside else []


def list_cases(root: Path) -> Listing:
    """List the cases of all parts, with their part as `split`."""
    cases: dict[str, CaseFiles] = {}
    about: dict[str, dict[str, str]] = {}
    problems: list[str] = []
    parts = _parts(root)
    for part, folder in parts:
        inside = _inside(folder)
        if len(inside) != 1:
            listed = "; or ".join(words for _, words in inside) or "neither"
            problems.append(
                f"{folder}: expected images/ and labels/, or images beside their masks, or DICOM "
                f"studies; it holds {listed}. Make it one of them."
            )
            continue
        listing: Listing = inside[0][0].list_cases(folder)
        problems += listing.problems
        for case in listing.cases:
            if case.name in cases:
                problems.append(
                    f"{cases[case.name].image} and {case.image} have the same name in two parts. "
                    "Rename one; or remove it, if they are the same image."
                )
            else:
                cases[case.name] = case
                about[case.name] = {
                    **listing.about.get(case.name, {}),
                    "case": case.name,
                    "split": part,
                }
    ordered = tuple(cases[name] for name in sorted(cases))
    return Listing(ordered, about, tuple(problems), tuple(_passed_over(root, parts)))


def _parts(root: Path) -> list[tuple[str, Path]]:
    found = [
        (_NAMES[name], folder)
        for name, folders in subfolders(root).items()
        if name in _NAMES
        for folder in folders
    ]
    return sorted(found, key=lambda row: (PARTS.index(row[0]), row[1]))


def _inside(folder: Path) -> list[tuple[ModuleType, str]]:
    """Return the layouts that a part may have, with the reading in words."""
    named = [(module, words) for module in (pairs, flat) for words in module.readings(folder)]
    return named or [(dicom, words) for words in dicom.readings(folder)]


def _passed_over(root: Path, parts: list[tuple[str, Path]]) -> list[str]:
    used = {folder for _, folder in parts}
    return [
        f"{folder} holds images and labels, and is none of train, validation and test. Rename it, "
        "if its cases matter."
        for folders in subfolders(root).values()
        for folder in folders
        if folder not in used and _inside(folder)
    ]
