"""The contents of a data folder: cases, their files, and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Annotation:
    """The annotation of one case by one annotator.

    Attributes:
        files: the label image, `(("", path),)`; or one mask per class, `(("liver", path), ...)`.
    """

    files: tuple[tuple[str, Path], ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Paths of the files."""
        return tuple(path for _, path in self.files)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        name: name of the image without suffix.
        images: the image's only file, or one file per channel.
        labels: one annotation per annotator.
        slices: files of the DICOM series if the image is one whose folder holds other files too;
            `images` then is the folder.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Annotation, ...]
    slices: tuple[Path, ...] = ()

    @property
    def image(self) -> Path:
        """The first image file, which represents the case in messages."""
        return self.images[0]


@dataclass(frozen=True)
class DataFolder:
    """The contents of a data folder.

    Attributes:
        root: path of the folder.
        cases: cases with an image and a label, sorted by name.
        classes: names of the classes, the background first; empty if the classes are not declared
            and the labels have not been read.
        values: value of each class in the label images.
        licence: licence given in `dataset.json`, or an empty string.
        about: rows of `cases.csv`, by case.
        partitions: contents of `splits.json`.
        problems: reasons why the folder cannot be used, each with its remedy.
        passed_over: what the layout leaves out, with the reason.
    """

    root: Path
    cases: tuple[CaseFiles, ...]
    classes: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    licence: str = ""
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    partitions: Mapping[str, list[dict[str, list[str]]]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
