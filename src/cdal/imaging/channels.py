"""Images whose channels lie in a file each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.imaging.formats import read_image
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError

CHANNEL = re.compile(r"^(?P<name>.+)_(?P<channel>\d{4})$")
"""The name of a file with one channel of an image, as nnU-Net has it."""


def read_channels(paths: Sequence[Path], read: Callable[[Path], Image] = read_image) -> Image:
    """An image whose channels are put together from their files.

    Args:
        paths: the image's file, or one file for each channel.
        read: `read_image`, or another reader.

    Raises:
        UserError: a file is damaged, or the files lie on different grids.
    """
    first, *others = (read(path) for path in paths)
    for path, other in zip(paths[1:], others, strict=True):
        placed = first.affine is None or other.affine is None or np.allclose(first.affine, other.affine, atol=1e-2)
        if other.shape != first.shape or not placed:
            raise UserError(f"{path}: expected the shape and the affine of {paths[0].name}, {first.shape}; it has {other.shape}.")
    return replace(first, array=np.concatenate([first.array, *[other.array for other in others]])) if others else first
