"""The contents of a data folder: cases, their files, and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Coding = Literal["values", "colours", "foreground"]
"""What the numbers of a label image mean: each value is a class; each colour is a class; whatever
is not 0 is the only class."""

CASES = "cases.csv"
"""Name of the table of the cases in a data folder."""


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
        slices: files of the image if it is of a folder of DICOM studies; `images` then is the
            folder of the series, or the file of a radiograph.
        channels: number of channels that `dataset.json` declares; `None` if it does not.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Annotation, ...]
    slices: tuple[Path, ...] = ()
    channels: int | None = None

    @property
    def image(self) -> Path:
        """The first image file, which represents the case in messages."""
        return self.images[0]


@dataclass(frozen=True)
class Listing:
    """The cases that a layout finds in a folder.

    Attributes:
        cases: cases with an image and a label.
        about: what the layout says of cases, such as their patient or part, by case.
        problems: reasons why the folder cannot be used, each with its remedy.
        passed_over: what the layout leaves out, with the reason.
    """

    cases: tuple[CaseFiles, ...]
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataFolder:
    """The contents of a data folder.

    Attributes:
        root: path of the folder, or of the table that lists images and labels.
        cases: cases with an image and a label, sorted by name.
        classes: names of the classes, the background first; empty if the classes are not declared
            and the labels have not been read.
        values: value of each class in the label images; its colour, 65536 * red + 256 * green +
            blue, if `coding` is `colours`.
        licence: licence given in `dataset.json`, or an empty string.
        about: rows of `cases.csv`, by case; and what the layout says of a case.
        partitions: contents of `splits.json`.
        problems: reasons why the folder cannot be used, each with its remedy.
        layout: the layout in words: its name, and where images and labels lie.
        passed_over: what the layout leaves out, with the reason.
        coding: what the numbers of a label image mean.
    """

    root: Path
    cases: tuple[CaseFiles, ...]
    classes: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    licence: str = ""
    about: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    partitions: Mapping[str, list[dict[str, list[str]]]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    layout: str = ""
    passed_over: tuple[str, ...] = ()
    coding: Coding = "values"

    @property
    def by_mask(self) -> bool:
        """Whether classes have masks of their own."""
        return any(
            name
            for case in self.cases
            for annotation in case.labels
            for name, _ in annotation.files
        )

    @property
    def declared_values(self) -> tuple[int, ...]:
        """Values that are declared as classes, each for itself."""
        return () if self.coding == "foreground" else self.values

    @property
    def place(self) -> Path:
        """The folder that holds `dataset.json` and the tables."""
        return self.root.parent if self.root.is_file() else self.root

    @property
    def table(self) -> Path:
        """The table of the cases."""
        return self.root if self.root.is_file() else self.root / CASES
