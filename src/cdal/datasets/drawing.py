"""Reading the file of a label on the grid of its image, whether it holds values or outlines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cdal.datasets.layout import Coding
from cdal.datasets.values import read_values
from cdal.imaging.annotations import AnnotationFormat, Segment, draw, need_format
from cdal.imaging.grid import turned_to
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.text import composed, printable

_BACKGROUND = {"background", "_background_", "__background__"}
"""Names that programs give to the background."""

_UNNAMED = re.compile(r"^(segment[ _]?\d*)?$", re.IGNORECASE)
"""No name, or one that 3D Slicer gives to a segment that nobody named."""


@dataclass
class Drawing:
    """A label on the grid of its image, and what was left out of it.

    Attributes:
        label: values `[1, *S]`, as they are stored, or the value of the class that was drawn.
        covered: voxels at which a class covers another one.
        nameless: objects without a class, which are left out.
        unknown: number of objects by class, of classes that the folder does not have. They are left
            out.
        nowhere: objects that cover no voxel: they lie outside the image, or are points or lines.
        notes: what a user should know of how the file is read.
    """

    label: Image
    covered: int = 0
    nameless: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    nowhere: int = 0
    notes: tuple[str, ...] = ()


def read_drawing(
    path: Path,
    name: str,
    values: Mapping[str, int],
    image: Image,
    image_name: str,
    coding: Coding = "values",
) -> Drawing:
    """Read a label image, or draw an annotation on the grid of its image.

    Args:
        path: path of the file.
        name: class that everything in the file belongs to, whose value then is 1; empty if the
            file says itself what belongs to which class.
        values: value of each class, the background first.
        image: the image.
        image_name: file name of the image, which files of several images look up.
        coding: what the numbers of a label image mean.

    Raises:
        UserError: the file is damaged, or does not belong to the image.
    """
    annotation_format = need_format(path)
    if annotation_format is None:
        return Drawing(turned_to(read_values(path, "values" if name else coding), image))
    drawing = Drawing(replace(image, array=np.zeros((1, *image.shape), np.int32), header=None))
    drawing.notes = annotation_format.notes(path)
    segments = annotation_format.read(path, image, image_name)
    if name:
        values = {"": 0, name: 1}
        known = _as_class(segments, name, drawing, path)
    else:
        known = _known(segments, tuple(values), drawing)
    drawn, drawing.covered = draw(known, image.shape, tuple(values))
    array = np.array(list(values.values()), np.int32)[drawn][None]
    drawing.label = replace(drawing.label, array=array, stored=np.dtype(np.int32))
    return drawing


def class_names(annotation_format: AnnotationFormat, path: Path) -> list[str]:
    """Return the names of the classes in a file, without the background; errors as for `read`."""
    names = [composed(name) for name in annotation_format.class_names(path)]
    return [name for name in names if name.strip() and not is_background(name)]


def spelt(name: str) -> str:
    """Return a name with single spaces only, its accents stored in one way."""
    return composed(" ".join(name.split()))


def is_background(name: str) -> bool:
    """Whether the name of a class means the background."""
    return name.strip().lower() in _BACKGROUND


def _as_class(
    segments: Iterable[Segment], name: str, drawing: Drawing, path: Path
) -> Iterator[Segment]:
    """Yield the segments of a file of one class, as of this class.

    Raises:
        UserError: a segment has another name.
    """
    for segment in segments:
        own = spelt(segment.name)
        if own.casefold() != name.casefold() and not _UNNAMED.match(own):
            raise UserError(
                f"{path}: by its file name it holds {name}, and an object in it is called {own!r}. "
                f"Give the file the name of its image, without {name}, if it holds several "
                "classes; or rename the object."
            )
        if segment.inside.any():
            yield replace(segment, name=name)
        else:
            drawing.nowhere += 1


def _known(
    segments: Iterable[Segment], classes: Sequence[str], drawing: Drawing
) -> Iterator[Segment]:
    """Yield the segments of known classes, and count the others."""
    own = {spelt(name): name for name in classes}
    for segment in segments:
        name = spelt(segment.name)
        if not segment.inside.any():
            drawing.nowhere += 1
        elif not name:
            drawing.nameless += 1
        elif name in own or is_background(name):
            yield replace(segment, name=own.get(name, classes[0]))
        else:
            name = printable(name)
            drawing.unknown[name] = drawing.unknown.get(name, 0) + 1
