"""Annotations read onto their image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.path import Path as Outline

from cdal.imaging.annotations import AnnotationFormat, annotation_format, draw
from cdal.imaging.image import Image


def picture_of(shape: tuple[int, ...], suffix: str = ".png") -> Image:
    """An image of a shape, of which only the grid matters."""
    return Image(np.zeros((1, *shape), np.float32), suffix=suffix)


def known(path: Path) -> AnnotationFormat:
    found = annotation_format(path)
    assert found is not None
    return found


def drawn(
    path: Path, shape: tuple[int, int], classes: tuple[str, ...], image: str = "a.png"
) -> np.ndarray:
    """The classes of an annotation of a picture, those without a class left out."""
    segments = known(path).read(path, picture_of(shape), image)
    return draw((segment for segment in segments if segment.name), shape, classes)[0]


def filled(ring: list | np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A ring filled by matplotlib: a pixel is inside if its centre is."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.c_[x.ravel(), y.ravel()] + 0.5
    return Outline(np.asarray(ring, float), closed=False).contains_points(centres).reshape(shape)
