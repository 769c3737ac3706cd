"""Annotation formats: the table of formats, and drawing annotations on the grid of their image.

An annotation has no grid of its own, or not that of its image: outlines, segments of DICOM and 3D
Slicer. A reader gets the image that it belongs to, and returns segments on the grid of this image.
To add a format, write a module in this package with the functions described in `AnnotationFormat`,
and add a row to `ANNOTATIONS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.formats import DICOM, readable, suffix_of
from cdal.imaging.image import Image


@dataclass(frozen=True)
class Segment:
    """One object or segment, on the grid of its image.

    Attributes:
        name: name of its class; empty if the file does not name it.
        box: the part of the image that `inside` covers, one slice per axis of the image.
        inside: whether each voxel of the box belongs to the segment, bool.
    """

    name: str
    box: tuple[slice, ...]
    inside: np.ndarray


@dataclass(frozen=True)
class AnnotationFormat:
    """An annotation format.

    Attributes:
        name: name of the format.
        suffixes: suffixes of its files.
        module: module of this package, imported when it is first needed, with the functions

            - `recognises(path) -> bool`: whether the content of a file with one of the suffixes is
              of this format, as several formats share `.json` and `.xml`;
            - `class_names(path) -> tuple[str, ...]`: names of the classes in a file, without
              reading its image;
            - `read(path, like, image) -> list[Segment]`: the segments in drawing order. `like` is
              the image (its geometry and shape), `image` its file name, which formats with several
              images in one file look up.

            It may also have `notes(path) -> tuple[str, ...]`, what a user should know of how a file
            is read.
        shared: whether one file holds the annotations of several images. Its module also has
            `image_names(path) -> tuple[str, ...]`, the file names of these images.
        bare: whether files without a suffix can be of this format.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str
    shared: bool = False
    bare: bool = False

    def recognises(self, path: Path) -> bool:
        """Whether a file is of this format."""
        named = path.name.lower().endswith(self.suffixes)
        bare = self.bare and suffix_of(path) is None
        return (named or bare) and bool(self.functions.recognises(path))

    def class_names(self, path: Path) -> tuple[str, ...]:
        """Return the names of the classes in a file; errors as for `read`."""
        with readable(path, self.name):
            return tuple(self.functions.class_names(path))

    def read(self, path: Path, like: Image, image: str = "") -> list[Segment]:
        """Read the segments of an image, in drawing order.

        Raises:
            UserError: the file is damaged, does not belong to the image, or holds none of it.
        """
        with readable(path, self.name):
            return list(self.functions.read(path, like, image))

    def notes(self, path: Path) -> tuple[str, ...]:
        """Return what a user should know of how a file is read; errors as for `read`."""
        with readable(path, self.name):
            told = getattr(self.functions, "notes", None)
            return tuple(told(path)) if told else ()

    @property
    def functions(self) -> Any:
        """The module of the format."""
        return importlib.import_module(f"{__name__}.{self.module}")


ANNOTATIONS: tuple[AnnotationFormat, ...] = (
    AnnotationFormat("DICOM-SEG", DICOM.suffixes, "dicom_seg", bare=True),
    AnnotationFormat("RTSTRUCT", DICOM.suffixes, "rtstruct", bare=True),
)
"""Every annotation format that can be read."""


def annotation_format(path: Path) -> AnnotationFormat | None:
    """Return the annotation format of a file, or `None` if it is a label image or unknown."""
    return next((known for known in ANNOTATIONS if known.recognises(path)), None)


def draw(
    segments: Iterable[Segment], shape: Sequence[int], classes: Sequence[str]
) -> tuple[np.ndarray, int]:
    """Draw segments on an image's grid; where they overlap, the later one covers the earlier one.

    Args:
        segments: segments in drawing order, with names from `classes`.
        shape: shape of the image, `*S`.
        classes: names of the classes, the background first.

    Returns:
        The index of the class at each voxel, `[*S]` uint8, and the number of voxels at which a
        class covers another one.
    """
    drawn = np.zeros(tuple(shape), np.uint8)
    covered = 0
    for segment in segments:
        value = classes.index(segment.name)
        part = drawn[segment.box]
        covered += int((segment.inside & (part != 0) & (part != value)).sum())
        part[segment.inside] = value
    return drawn, covered
