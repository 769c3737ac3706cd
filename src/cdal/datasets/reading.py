"""Reading the files of a case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cdal.datasets.labels import need_on_grid, read_annotation
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.imaging.channels import read_channels
from cdal.imaging.formats import read_image
from cdal.imaging.image import Image


def read_image_of(files: CaseFiles, read: Callable[[Path, int], Image] = read_image) -> Image:
    """Read the image of a case.

    Args:
        files: files of the case.
        read: function that reads one file; `read_image` or `read_any`.

    Raises:
        UserError: a file is damaged, the channels have different grids, or the slices of a DICOM
            series do not form a regular volume.
    """
    if files.slices:
        # Imported here because it is large, and most cases are no DICOM.
        from cdal.imaging.formats.dicom import read_series

        return read_series(files.slices)
    return read_channels(files.images, read, files.channels or 0)


def read_case(files: CaseFiles, folder: DataFolder) -> tuple[Image, list[Image]]:
    """Read the image and the annotations of a case, on the image's own grid.

    Returns:
        The image, and a label image of classes per annotator.

    Raises:
        UserError: a file is damaged, or a label has another grid than its image or contains
            undeclared classes.
    """
    image = read_image_of(files)
    labels = [
        read_annotation(annotation, folder, image, files.image.name) for annotation in files.labels
    ]
    for annotation, label in zip(files.labels, labels, strict=True):
        need_on_grid(annotation.paths[0], label, image)
    return image, labels
