"""Images whose channels are stored in separate files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.imaging.formats import read_image
from cdal.imaging.grid import off_grid
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

CHANNEL = re.compile(r"^(?P<name>.+)_(?P<channel>\d{4})$")
"""Name of a file that holds one channel of an image, as in nnU-Net."""


def read_channels(
    paths: Sequence[Path],
    read: Callable[[Path, int], Image] = read_image,
    fourth_axis: int = 0,
) -> Image:
    """Read an image, joining its channels if they are stored in separate files.

    Args:
        paths: the image's only file, or one file per channel.
        read: function that reads one file; `read_image` or `read_any`.
        fourth_axis: number of channels that the only file may hold on a fourth axis, see
            `read_image`.

    Raises:
        UserError: a file is damaged, or the files have different grids.
    """
    expected = fourth_axis if len(paths) == 1 else 0
    first, *rest = (read(path, expected) for path in paths)
    for path, image in zip(paths[1:], rest, strict=True):
        if image.shape != first.shape:
            raise UserError(
                f"{path}: expected the shape of {paths[0].name}, {first.shape}; it has "
                f"{image.shape}."
            )
        if fault := off_grid(image, first):
            raise UserError(
                f"{path}: expected the affine of {paths[0].name}; the {fault} Resample one to the "
                "other."
            )
    return (
        replace(first, array=np.concatenate([first.array, *[image.array for image in rest]]))
        if rest
        else first
    )
