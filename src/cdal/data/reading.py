"""A case's files as images on their own grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.data.folder import CaseFiles, DataFolder
from cdal.data.formats import read_image
from cdal.data.image import Image
from cdal.data.labels import need_on_grid, read_annotation
from cdal.errors import UserError


def read_case(files: CaseFiles, folder: DataFolder) -> tuple[Image, list[Image]]:
    """A case's image and its annotators' classes, on its own grid.

    Raises:
        UserError: a file is damaged, a label lies on another grid than its image, or holds classes that were not declared.
    """
    image = read_channels(files)
    labels = [read_annotation(annotation, folder) for annotation in files.labels]
    for annotation, label in zip(files.labels, labels, strict=True):
        need_on_grid(annotation.paths[0], label, image)
    return image, labels


def read_channels(files: CaseFiles, read: Callable[[Path], Image] = read_image) -> Image:
    """The image of a case, its channels' files put together.

    Args:
        files: of the case.
        read: `read_image`, or another reader.

    Raises:
        UserError: a file is damaged, or the files lie on different grids.
    """
    first, *others = (read(path) for path in files.images)
    for path, other in zip(files.images[1:], others, strict=True):
        placed = first.affine is None or other.affine is None or np.allclose(first.affine, other.affine, atol=1e-2)
        if other.shape != first.shape or not placed:
            raise UserError(
                f"{path}: expected the shape and the affine of {files.image.name}, {first.shape}; it has {other.shape}."
            )
    return replace(first, array=np.concatenate([first.array, *[other.array for other in others]])) if others else first
