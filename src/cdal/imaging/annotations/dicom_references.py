"""Which images a DICOM-SEG or RTSTRUCT refers to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.imaging.formats.dicom import Source
from cdal.imaging.formats.dicom_files import items_of, text_of
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class References:
    """What an annotation refers to.

    Attributes:
        series: SeriesInstanceUID of each series.
        instances: SOPInstanceUID of each image.
        frames: FrameOfReferenceUID, the space in which it lies; several are possible.
    """

    series: frozenset[str]
    instances: frozenset[str]
    frames: frozenset[str]


def references_of(dataset: Any) -> References:
    """The references in the header of a DICOM-SEG or RTSTRUCT."""
    spaces = items_of(dataset, "ReferencedFrameOfReferenceSequence")
    series = [
        *items_of(dataset, "ReferencedSeriesSequence"),
        *(
            series
            for space in spaces
            for study in items_of(space, "RTReferencedStudySequence")
            for series in items_of(study, "RTReferencedSeriesSequence")
        ),
    ]
    images = [
        *items_of(dataset, "SourceImageSequence"),
        *(image for item in series for image in items_of(item, "ReferencedInstanceSequence")),
        *(image for item in series for image in items_of(item, "ContourImageSequence")),
        *_derived_from(dataset),
    ]
    return References(
        frozenset(_texts(series, "SeriesInstanceUID")),
        frozenset(_texts(images, "ReferencedSOPInstanceUID")),
        frozenset(_texts([dataset, *spaces], "FrameOfReferenceUID")),
    )


def need_reference(path: Path, dataset: Any, like: Image) -> None:
    """Require that an annotation belongs to a DICOM image, or lies in the same space.

    An image of another format has no UID; there the place in millimetres has to suffice.

    Raises:
        UserError: the annotation was drawn on another series.
    """
    if not isinstance(like.header, Source):
        return
    source, refers = like.header.datasets[0], references_of(dataset)
    images = {text_of(item, "SOPInstanceUID") for item in like.header.datasets}
    if text_of(source, "SeriesInstanceUID") in refers.series or images & refers.instances:
        return
    if text_of(source, "FrameOfReferenceUID") in refers.frames - {""}:
        return
    raise UserError(
        f"{path}: expected an annotation of its image; it refers neither to the image's series nor "
        "to its space (FrameOfReferenceUID). Give the annotation that was drawn on this series."
    )


def _derived_from(dataset: Any) -> Iterator[Any]:
    """The source images of each frame."""
    for group in (
        *items_of(dataset, "SharedFunctionalGroupsSequence"),
        *items_of(dataset, "PerFrameFunctionalGroupsSequence"),
    ):
        for derivation in items_of(group, "DerivationImageSequence"):
            yield from items_of(derivation, "SourceImageSequence")


def _texts(items: list[Any], keyword: str) -> set[str]:
    return {text_of(item, keyword) for item in items} - {""}
