"""Images whose channels are stored in separate files."""

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
"""Name of a file that holds one channel of an image, as in nnU-Net."""


def read_channels(paths: Sequence[Path], read: Callable[[Path], Image] = read_image) -> Image:
    """Read an image, joining its channels if they are stored in separate files.

    Args:
        paths: the image's only file, or one file per channel.
        read: function that reads one file; `read_image` or another reader.

    Raises:
        UserError: a file is damaged, or the files have different grids.
    """
    first, *rest = (read(path) for path in paths)
    for path, image in zip(paths[1:], rest, strict=True):
        same_affine = (
            first.affine is None
            or image.affine is None
            or np.allclose(first.affine, image.affine, atol=1e-2)
        )
        if image.shape != first.shape or not same_affine:
            raise UserError(
                f"{path}: expected the shape and the affine of {paths[0].name}, {first.shape}; it "
                f"has {image.shape}."
            )
    return (
        replace(first, array=np.concatenate([first.array, *[image.array for image in rest]]))
        if rest
        else first
    )
