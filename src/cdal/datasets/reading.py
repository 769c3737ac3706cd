"""Reading the files of a case."""

from __future__ import annotations

from cdal.datasets.labels import need_on_grid, read_annotation
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.imaging.channels import read_channels
from cdal.imaging.grid import turned_to
from cdal.imaging.image import Image


def read_case(files: CaseFiles, folder: DataFolder) -> tuple[Image, list[Image]]:
    """Read the image and the annotations of a case, on the image's own grid.

    Returns:
        The image, and a label image of classes per annotator.

    Raises:
        UserError: a file is damaged, or a label has another grid than its image or contains
            undeclared classes.
    """
    image = read_channels(files.images, fourth_axis=files.channels or 0)
    labels = [turned_to(read_annotation(annotation, folder), image) for annotation in files.labels]
    for annotation, label in zip(files.labels, labels, strict=True):
        need_on_grid(annotation.paths[0], label, image)
    return image, labels
