"""The files of a case: finding them, opening its image, reading its mask on the image's grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from cdal.evaluation.review.cases import Case
from cdal.imaging.formats import DICOM, format_of
from cdal.imaging.image import Image
from cdal.imaging.open import open_image, open_mask
from cdal.imaging.rows import Rows
from cdal.inference.graph_engine import GRAPHS, read_description
from cdal.runtime.errors import UserError
from cdal.segmenters.find_models import find_model
from cdal.segmenters.model_header import read_header


@dataclass(frozen=True)
class Files:
    """The files of a case.

    Attributes:
        image: file, or folder of a DICOM series.
        mask: mask; `None` if none was saved.
        uncertainty: uncertainty; `None` if it was not saved.
        classes: names of the classes without the background, which a DICOM-SEG refers to.
        channels: number of channels of the model, 0 if it is not known.
        series: SeriesInstanceUID, if the image is a folder of DICOM and it is known.
    """

    image: Path
    mask: Path | None
    uncertainty: Path | None
    classes: tuple[str, ...]
    channels: int
    series: str = ""


class GoneError(UserError):
    """A file is missing; the message holds its path only."""


def files_of(case: Case, results: Path) -> Files:
    """The files of a case in a folder of results.

    Raises:
        UserError: the image or the mask is not there (`GoneError`).
    """
    image = Path(case.source)
    if not case.source or not image.exists():
        raise GoneError(
            f"{case.source or 'The image'} is not there. Paths are relative to the folder in which "
            "cdal predict was called; call cdal review there."
        )
    paths = {kind: results / name for kind, name in case.files.items()}
    mask, uncertainty = paths.get("mask"), paths.get("uncertainty")
    if mask is not None and not mask.is_file():
        raise GoneError(f"The mask {mask.name} is not there. Segment the image again.")
    if uncertainty is not None and not uncertainty.is_file():
        uncertainty = None
    found = format_of(image)
    channels = channels_of(case.model) if found is not None and found.fourth_axis else 0
    names = tuple(found.name for found in case.classes)
    return Files(image, mask, uncertainty, names, channels, case.series)


@lru_cache(maxsize=16)
def channels_of(model: str) -> int:
    """Number of channels of a model, 0 if it is not there any more."""
    try:
        path = find_model(model, download=False)
        graph = path.suffix in GRAPHS.values()
        header = read_description(path).header if graph else read_header(path)
    except (UserError, OSError, ValueError):
        return 0
    return header.image_channels


@contextmanager
def open_files(files: Files) -> Iterator[Rows]:
    """Open the image of a case.

    Raises:
        UserError: it is missing or damaged.
    """
    if files.image.is_dir():
        yield _series(files)
        return
    with open_image(files.image, None, files.channels) as rows:
        yield rows


def _series(files: Files) -> Image:
    """Read the DICOM series of a folder: the recorded one, or the one that the mask refers to."""
    from cdal.imaging.annotations.dicom_references import references_of
    from cdal.imaging.formats.dicom import read_series
    from cdal.imaging.formats.dicom_files import read_file
    from cdal.imaging.formats.dicom_series import choose_series, find_series

    found = find_series(files.image)
    if files.series:
        found = [series for series in found if series.uid == files.series]
        if not found:
            raise GoneError(f"The series that was segmented is no longer in {files.image}.")
    elif files.mask is not None and format_of(files.mask) is DICOM:
        named = references_of(read_file(files.mask, pixels=False)).series
        found = [series for series in found if series.uid in named] or found
    return read_series(choose_series(files.image, found, None).files)


def read_mask(files: Files, image: Image) -> np.ndarray:
    """The mask of an image in memory, `[*S]` uint8; all background if none was saved.

    Raises:
        UserError: it is damaged, or has another shape than its image.
    """
    label = np.zeros(image.shape, np.uint8)
    path = files.mask
    if path is None:
        return label
    if format_of(path) is not DICOM:
        with open_mask(path) as mask:
            need_shape(path, mask.shape, image.shape)
            return np.asarray(mask.rows(0, mask.shape[0])[0], np.uint8)
    from cdal.imaging.annotations.dicom_seg import read

    numbers = {name[:64].strip(): k for k, name in enumerate(files.classes, start=1)}
    for segment in read(path, image):
        if (number := numbers.get(segment.name.strip())) is None:
            raise UserError(
                f"{path}: expected segments of the classes {', '.join(files.classes)}; one is "
                f"called {segment.name}. Is it of another model?"
            )
        label[segment.box][segment.inside] = number
    return label


def need_shape(path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a result that does not have the shape of its image."""
    if shape != expected:
        raise UserError(
            f"{path}: expected the shape of its image, {expected}; it has {shape}. Has the image "
            "changed since? Segment it again."
        )
