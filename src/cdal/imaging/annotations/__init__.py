"""Annotation formats: the table of formats, and drawing annotations on the grid of their image.

An annotation has no grid of its own, or not that of its image: outlines, segments of DICOM and 3D
Slicer. A reader gets the image that it belongs to, and returns segments on the grid of this image.
To add a format, write a module in this package with the functions described in `AnnotationFormat`,
and add a row to `ANNOTATIONS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.formats import DICOM, is_dicom, readable, suffix_of
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Segment:
    """One object or segment, on the grid of its image.

    Attributes:
        name: name of its class; empty if the file does not name it.
        box: the part of the image that `inside` covers, one slice per axis of the image. It is
            empty if the object covers no voxel: it lies outside the image, or it is a point or a
            line.
        inside: whether each voxel of the box belongs to the segment, bool.
    """

    name: str
    box: tuple[slice, ...]
    inside: np.ndarray


@contextmanager
def _located(path: Path, name: str) -> Iterator[None]:
    """Turn any error of a damaged file into a `UserError` that names the file."""
    try:
        with readable(path, name):
            yield
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error


@dataclass(frozen=True)
class AnnotationFormat:
    """An annotation format.

    Attributes:
        name: name of the format.
        suffixes: suffixes of its files, in small letters.
        module: module of this package, imported when it is first needed, with the functions

            - `recognises(path) -> bool`: whether the content of a file with one of the suffixes is
              of this format, as several formats share `.json` and `.xml`;
            - `class_names(path) -> Iterable[str]`: names of the classes in a file, without reading
              its image;
            - `read(path, like, image) -> Iterable[Segment]`: the segments in drawing order, best
              one at a time, because many large ones do not fit into memory at once. `like` is the
              image (its geometry and shape), `image` its file name, which formats with several
              images in one file look up.

            It may also have `notes(path) -> tuple[str, ...]`, what a user should know of how a file
            is read.
        shared: whether one file can hold the annotations of several images. Its module also has
            `image_names(path) -> Iterable[str]`, the file names of these images.
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
        bare = self.bare and suffix_of(path) is None and is_dicom(path)
        return (named or bare) and bool(self.functions.recognises(path))

    def class_names(self, path: Path) -> tuple[str, ...]:
        """Return the names of the classes in a file, each once; errors as for `read`."""
        with _located(path, self.name):
            return tuple(dict.fromkeys(self.functions.class_names(path)))

    def image_names(self, path: Path) -> tuple[str, ...]:
        """Return the file names of the images in a shared file; errors as for `read`."""
        with _located(path, self.name):
            return tuple(self.functions.image_names(path))

    def read(self, path: Path, like: Image, image: str = "") -> Iterator[Segment]:
        """Read the segments of an image one by one, in drawing order.

        Args:
            path: path of the file.
            like: the image, of which shape and geometry are used.
            image: file name of the image.

        Raises:
            UserError: the file is damaged, does not belong to the image, or holds none of it.
        """
        with _located(path, self.name):
            segments = iter(self.functions.read(path, like, image))
        while True:
            # Libraries are kept silent while a segment is read, not while the caller uses it.
            with _located(path, self.name):
                segment = next(segments, None)
            if segment is None:
                return
            yield segment

    def notes(self, path: Path) -> tuple[str, ...]:
        """Return what a user should know of how a file is read; errors as for `read`."""
        with readable(path, self.name):
            notes = getattr(self.functions, "notes", None)
            return tuple(notes(path)) if notes else ()

    @property
    def functions(self) -> Any:
        """The module of the format."""
        return importlib.import_module(f"{__name__}.{self.module}")


ANNOTATIONS: tuple[AnnotationFormat, ...] = (
    AnnotationFormat("DICOM-SEG", DICOM.suffixes, "dicom_seg", bare=True),
    AnnotationFormat("RTSTRUCT", DICOM.suffixes, "rtstruct", bare=True),
    AnnotationFormat("a 3D Slicer segmentation", (".seg.nrrd", ".nrrd"), "seg_nrrd"),
    AnnotationFormat("labelme JSON", (".json",), "labelme"),
    AnnotationFormat("COCO JSON", (".json",), "coco", shared=True),
    AnnotationFormat("GeoJSON", (".geojson", ".json"), "geojson"),
    AnnotationFormat("ImageJ ROI", (".roi", ".zip"), "imagej"),
    AnnotationFormat("CVAT XML", (".xml",), "cvat", shared=True),
    AnnotationFormat("ASAP XML", (".xml",), "asap"),
    AnnotationFormat("Aperio XML", (".xml", ".xml.gz"), "aperio"),
)
"""Every annotation format that can be read."""


def annotation_format(path: Path) -> AnnotationFormat | None:
    """Return the annotation format of a file, or `None` if it is a label image or unknown."""
    if not path.is_file():
        return None
    about = path.stat()
    return _recognised(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=1024)
def _recognised(path: Path, modified: int, size: int) -> AnnotationFormat | None:
    """Find the format of a file once: one of many images would be searched for each of them."""
    with suppress(OSError):  # reading it says why
        return next((known for known in ANNOTATIONS if known.recognises(path)), None)
    return None


def label_suffix_of(path: Path) -> str | None:
    """Return the suffix of a label's file name, or `None` if the file is no label.

    Files with a suffix that annotations share with other files, such as `.json`, are labels if
    their content is an annotation, or if they are empty or damaged: then reading them says so.
    """
    name = path.name.lower()
    suffixes = {
        suffix for known in ANNOTATIONS for suffix in known.suffixes if name.endswith(suffix)
    }
    if not suffixes:
        return suffix_of(path)
    longest = max(suffixes, key=len)
    if longest not in _SHARED_SUFFIXES or annotation_format(path) or not _may_be_other(path):
        return longest
    return None


_SHARED_SUFFIXES = (".json", ".xml", ".xml.gz", ".zip")
"""Suffixes of annotations that files of other kinds have too."""


def _may_be_other(path: Path) -> bool:
    """Whether a file that is no annotation is a whole file of another kind, by its first byte."""
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b"<", b"P", b"\x1f")


def need_format(path: Path) -> AnnotationFormat | None:
    """Return the annotation format of a label, or `None` if it is a label image.

    Raises:
        UserError: the file has the suffix of annotations only, and is none.
    """
    found = annotation_format(path)
    if found is None and suffix_of(path) is None:
        name = path.name.lower()
        possible = [known.name for known in ANNOTATIONS if name.endswith(known.suffixes)]
        if possible:
            size = path.stat().st_size if path.is_file() else 0
            content = "its content is none of these" if size else "it is missing or empty"
            raise UserError(
                f"{path}: expected {' or '.join(possible)}; {content}. Export it again."
            )
    return found


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
