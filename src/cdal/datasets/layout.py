"""What a data folder holds: cases, their files, classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Annotation:
    """What one annotator drew.

    Attributes:
        files: the label image, `(("", path),)`; or one mask for each class, `(("liver", path), ...)`.
    """

    files: tuple[tuple[str, Path], ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(path for _, path in self.files)


@dataclass(frozen=True)
class CaseFiles:
    """One case on disk.

    Attributes:
        name: the image's name without suffix.
        images: its file, or one for each channel.
        labels: one annotation, or one for each annotator.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Annotation, ...]

    @property
    def image(self) -> Path:
        """The (first) image file, which stands for the case in messages."""
        return self.images[0]


@dataclass(frozen=True)
class DataFolder:
    """What a data folder holds.

    Attributes:
        root: where it is.
        cases: sorted by name; those that have an image and a label.
        classes: names, the background first; none where they are not declared and have to be read from the labels.
        values: what stands for each class in the label images.
        licence: what `dataset.json` says of it, or nothing.
        about: rows of `cases.csv` by case.
        partitions: `splits.json`.
        problems: what keeps the folder from being used, each with the remedy.
    """

    root: Path
    cases: tuple[CaseFiles, ...]
    classes: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    licence: str = ""
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    partitions: Mapping[str, list[dict[str, list[str]]]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
