"""BIDS: images of subjects beside derivatives with their segmentations.

    sub-01/[ses-1/]anat/sub-01_[ses-1_][run-1_]T1w.nii.gz
    derivatives/PIPELINE/sub-01/[ses-1/]anat/sub-01_[ses-1_][run-1_]dseg.nii.gz

A label belongs to the image of the same subject, session and run. Several modalities, or several
kinds of labels, are several readings.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cdal.datasets.layout import Annotation, CaseFiles, Listing
from cdal.datasets.layouts.files import entries, image_stem, note_partners, subfolders
from cdal.runtime.text import composed

_LABELS = ("dseg", "mask")
"""Suffixes of discrete segmentations and of masks."""

_PLACE = ("sub", "ses", "run")
"""Entities that say which image is meant; others say which kind of image."""


def readings(root: Path) -> list[str]:
    """Return each pair of a modality and a kind of labels, in words."""
    found = subfolders(root)
    if "derivatives" not in found or not any(name.startswith("sub-") for name in found):
        return []
    images, labels = _images(root), _labels(root)
    return [
        f"images *_{modality}, labels derivatives/{pipeline}/*_{kind}"
        for modality in sorted(images)
        for pipeline, kind in sorted(labels)
    ]


def list_cases(root: Path) -> Listing:
    """List the cases of the only modality and the only kind of labels."""
    (images,), (labels,) = _images(root).values(), _labels(root).values()
    problems = []
    for files in (images, labels):
        for place, paths in files.items():
            if len(paths) > 1:
                problems.append(
                    f"{paths[0]} and {paths[1]} are both of {place}. Remove one of them."
                )
    note_partners(
        problems, sorted(set(images) - set(labels)), "image without a label", root / "derivatives"
    )
    note_partners(problems, sorted(set(labels) - set(images)), "label without an image", root)
    names = sorted(set(images) & set(labels))
    return Listing(
        tuple(
            CaseFiles(name, (images[name][0],), (Annotation((("", labels[name][0]),)),))
            for name in names
        ),
        {name: {"case": name, "patient": name.partition("_")[0]} for name in names},
        tuple(problems),
    )


def _images(root: Path) -> dict[str, dict[str, list[Path]]]:
    """Return the images in `anat` by modality and place."""
    found: dict[str, dict[str, list[Path]]] = {}
    for path in _anatomical(root):
        place, kind = _entities(path)
        if place and kind.rpartition("_")[2] not in _LABELS:
            found.setdefault(kind, {}).setdefault(place, []).append(path)
    return found


def _labels(root: Path) -> dict[tuple[str, str], dict[str, list[Path]]]:
    """Return the labels by pipeline, kind and place."""
    found: dict[tuple[str, str], dict[str, list[Path]]] = {}
    pipelines = (
        folder for top in subfolders(root).get("derivatives", ()) for folder in entries(top)
    )
    for pipeline in (folder for folder in pipelines if folder.is_dir()):
        for path in _anatomical(pipeline):
            place, kind = _entities(path)
            if place and kind.rpartition("_")[2] in _LABELS:
                found.setdefault((pipeline.name, kind), {}).setdefault(place, []).append(path)
    return found


def _anatomical(root: Path) -> list[Path]:
    subjects = [path for path in entries(root) if path.name.startswith("sub-")]
    places = [
        place
        for subject in subjects
        if subject.is_dir()
        for place in (subject, *(path for path in entries(subject) if path.name[:4] == "ses-"))
    ]
    return [
        path
        for place in places
        if (place / "anat").is_dir()
        for path in entries(place / "anat")
        if path.is_file() and image_stem(path)
    ]


def _entities(path: Path) -> tuple[str, str]:
    """Return subject, session and run of a file, and the rest of its name: the kind of file."""
    parts = composed(image_stem(path) or "").split("_")
    place = [part for part in parts if part.partition("-")[0] in _PLACE and "-" in part]
    twice = Counter(part.partition("-")[0] for part in place)
    if twice["sub"] != 1 or max(twice.values()) > 1:
        return "", ""
    return "_".join(place), "_".join(part for part in parts if part not in place)
