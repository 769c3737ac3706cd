"""Annotations of several images in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from cdal.datasets.layout import Annotation
from cdal.imaging.annotations import annotation_format
from cdal.runtime.errors import first_few
from cdal.runtime.text import composed


def is_shared(path: Path) -> bool:
    """Whether a file can hold the annotations of several images."""
    found = annotation_format(path) if path.is_file() else None
    return found is not None and found.shared


def add_shared(
    annotations: dict[str, tuple[Annotation, ...]],
    paths: Iterable[Path],
    images: Mapping[str, tuple[Path, ...]],
    problems: list[str],
) -> None:
    """Add the annotation of each image that a shared file lists.

    Args:
        annotations: annotations that images have in files of their own, by case.
        paths: shared files.
        images: image files of each case.
        problems: list to which images are added that are listed and are not there, or that have
            several annotations.

    Raises:
        UserError: a file is damaged.
    """
    cases = {composed(files[0].name): name for name, files in images.items()}
    labels: dict[str, tuple[Annotation, ...]] = {}
    for path in paths:
        known = annotation_format(path)
        assert known is not None  # only shared files are given
        absent = []
        for listed in known.image_names(path):
            name = cases.get(composed(listed))
            if name is None:
                absent.append(listed)
            elif name in labels:
                first = labels[name][0].paths[0]
                where = f"{first} and {path} list" if first != path else f"{path} lists twice"
                problems.append(f"{where} the image {listed}. Keep one of its annotations.")
            else:
                labels[name] = (Annotation((("", path),)),)
        if absent:
            problems.append(
                f"{path} lists images that are not there: {first_few(absent)}. Add them, or remove "
                "them from the file."
            )
    problems += [
        f"{name} has a label of its own and one in a file of several images. Keep one."
        for name in sorted(set(annotations) & set(labels))
    ]
    annotations |= labels
