"""DICOM-SEG: reading segments with pydicom, writing masks with highdicom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.dicom_references import need_reference
from cdal.imaging.formats.dicom import Source
from cdal.imaging.formats.dicom_files import (
    count_of,
    items_of,
    lenient,
    numbers_of,
    read_file,
    reason_of,
    sop_class_of,
    text_of,
)
from cdal.imaging.formats.dicom_geometry import slices_of
from cdal.imaging.image import LPS, Image
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing
from cdal.runtime.version import __version__

SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation and, younger than pydicom's dictionary, label map segmentation."""

_OFF_GRID = 0.25
"""Largest distance between a pixel of a segment and the voxel it stands for, in voxels."""


def recognises(path: Path) -> bool:
    """Whether a file is a DICOM-SEG."""
    return sop_class_of(path) in SOP_CLASSES


def class_names(path: Path) -> tuple[str, ...]:
    """Names of the segments, in the order of the file.

    Raises:
        UserError: the file is damaged, or describes no segment.
    """
    return tuple(dict.fromkeys(_names(path, read_file(path, pixels=False)).values()))


def notes(path: Path) -> tuple[str, ...]:
    """What a user should know of how a file is read."""
    kind = text_of(read_file(path, pixels=False), "SegmentationType")
    if kind != "FRACTIONAL":
        return ()
    return (f"{path}: its segments are fractional; voxels of one half and more are inside.",)


def read(path: Path, like: Image, image: str = "") -> list[Segment]:
    """Read the segments of a series or picture, in the order of the file.

    Frames without foreground, which are left out of the file, are empty. The frames may be in
    another order than the slices of the image. Fractional segments are cut at one half.

    Raises:
        UserError: the file is damaged, was drawn on another series, or its frames do not lie on the
            voxels of the image.
    """
    dataset = read_file(path)
    need_reference(path, dataset, like)
    names = _names(path, dataset)
    parts: dict[int, list[tuple[tuple[int, ...], np.ndarray]]] = {number: [] for number in names}
    with lenient():
        for number, place, plane in _planes(path, dataset, like):
            if number not in parts:
                raise UserError(f"{path}: a frame belongs to segment {number}, which it lacks.")
            if plane.any():
                parts[number].append(_on_grid(path, place, plane, like.shape))
    return [joined(names[number], planes) for number, planes in parts.items() if planes]


def _names(path: Path, dataset: Any) -> dict[int, str]:
    """Number and name of each segment; a background that a label map describes is left out."""
    names = {}
    for item in items_of(dataset, "SegmentSequence"):
        number = text_of(item, "SegmentNumber")
        if number.isdigit() and int(number):
            meanings = [
                text_of(code, "CodeMeaning")
                for code in items_of(item, "SegmentedPropertyTypeCodeSequence")
            ]
            names[int(number)] = next(
                filter(None, (text_of(item, "SegmentLabel"), *meanings)), f"segment {number}"
            )
    if not names:
        raise UserError(f"{path}: expected segments; it describes none. Is it the right file?")
    return names


def _planes(path: Path, dataset: Any, like: Image) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The number of the segment, the place on the image's grid, and the pixels of each frame.

    A place is a matrix `[D, 3]`: the steps of one row and of one column, and the first pixel.
    """
    kind = text_of(dataset, "SegmentationType")
    largest = numbers_of(dataset, "MaximumFractionalValue", 1, str(path))
    half = 0.5 * (255 if largest is None else largest[0]) if kind == "FRACTIONAL" else 0.5
    places = _places(path, dataset, like)
    groups = items_of(dataset, "PerFrameFunctionalGroupsSequence")
    for i, pixels in enumerate(_frames(path, dataset)):
        if kind == "LABELMAP":
            for number in np.unique(pixels[pixels > 0]):
                yield int(number), places[i], pixels == number
        else:
            yield _segment_number(path, dataset, groups[i]), places[i], pixels >= half


def _frames(path: Path, dataset: Any) -> Iterator[np.ndarray]:
    """The pixels of each frame, decoded one at a time."""
    try:
        packed = count_of(dataset, "BitsAllocated") == 1 and text_of(dataset, "BitsAllocated")
        if packed and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            yield from _bits(dataset)
        else:
            yield from pydicom.pixels.iter_pixels(dataset)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # pydicom and decoders raise many exception types
        raise UserError(
            f"{path} cannot be decoded: {reason_of(error, (dataset,))}. Is it complete?"
        ) from error


def _bits(dataset: Any) -> Iterator[np.ndarray]:
    """Frames of one bit a pixel. A frame need not begin with a byte, which pydicom gets wrong."""
    shape = (count_of(dataset, "Rows"), count_of(dataset, "Columns"))
    size, stored = shape[0] * shape[1], np.frombuffer(dataset.PixelData, np.uint8)
    for start in range(0, size * count_of(dataset, "NumberOfFrames"), size):
        stop = start + size
        bits = np.unpackbits(stored[start // 8 : -(-stop // 8)], bitorder="little")
        yield bits[start % 8 :][:size].reshape(shape)


def _segment_number(path: Path, dataset: Any, group: Any) -> int:
    """The segment that a frame belongs to."""
    for holder in (group, *items_of(dataset, "SharedFunctionalGroupsSequence")):
        for item in items_of(holder, "SegmentIdentificationSequence"):
            if (number := text_of(item, "ReferencedSegmentNumber")).isdigit():
                return int(number)
    raise UserError(f"{path}: a frame belongs to no segment. Is the file complete?")


def _places(path: Path, dataset: Any, like: Image) -> list[np.ndarray]:
    """The place of each frame on the image's grid.

    Raises:
        UserError: a frame does not lie on the image's voxels.
    """
    shape = (count_of(dataset, "Rows"), count_of(dataset, "Columns"))
    groups = items_of(dataset, "PerFrameFunctionalGroupsSequence")
    if len(groups) != count_of(dataset, "NumberOfFrames"):
        raise UserError(f"{path}: expected a place for each of its frames. Is it complete?")
    if like.affine is None:
        if len(like.shape) != 2 or shape != like.shape:
            raise UserError(
                f"{path}: expected the shape of its image, {like.shape}; it is {shape}, and the "
                "image has no place in space."
            )
        return [np.array([[1, 0, 0], [0, 1, 0]])] * len(groups)
    to_voxels = np.linalg.inv(like.affine) @ LPS
    corners = np.array([(r, c, 1) for r in (0, shape[0] - 1) for c in (0, shape[1] - 1)])
    places = []
    for frame in slices_of(path.name, dataset):
        exact = (to_voxels @ frame.affine)[:3, 1:]
        place = np.round(exact)
        off = np.abs(corners @ (exact - place).T).max()
        if off > _OFF_GRID or not (np.abs(place[:, :2]).sum(axis=0) == 1).all():
            raise UserError(
                f"{path}: expected frames that lie on the voxels of its image; {frame.name} does "
                f"not ({off:.2g} voxels off). Was it drawn on another series, or resampled?"
            )
        places.append(place.astype(int))
    return places


def _on_grid(
    path: Path, place: np.ndarray, plane: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], np.ndarray]:
    """The part of a frame that holds its segment: first voxel, and `[*S]` bool of the part."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    part = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ends = (
        place @ np.array([(rows[0], columns[0], 1), (rows[-1], columns[-1], 1)]).T
    )  # of the part, on the image's grid
    if ends.min() < 0 or (ends >= np.array(shape)[:, None]).any():
        raise UserError(
            f"{path}: a segment lies outside of its image. Was it drawn on another series?"
        )
    down, right = (int(np.flatnonzero(place[:, axis])[0]) for axis in (0, 1))
    part = part[:: place[down, 0], :: place[right, 1]]
    part = part if down < right else part.T
    rest = tuple(axis for axis in range(len(shape)) if axis not in (down, right))
    return tuple(int(x) for x in ends.min(axis=1)), np.expand_dims(part, rest)


def joined(name: str, parts: Sequence[tuple[tuple[int, ...], np.ndarray]]) -> Segment:
    """Join parts of one segment.

    Args:
        name: name of the segment.
        parts: first voxel of each part, and whether its voxels are inside, `[*S]` bool.
    """
    low = np.min([start for start, _ in parts], axis=0)
    high = np.max([np.add(start, part.shape) for start, part in parts], axis=0)
    inside = np.zeros(high - low, bool)
    for start, part in parts:
        first = np.subtract(start, low)
        inside[tuple(map(slice, first, np.add(first, part.shape)))] |= part
    return Segment(
        name, tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)), inside
    )


def write_segmentation(
    path: Path, label: np.ndarray, like: Image, names: Sequence[str], algorithm: str
) -> None:
    """Write classes `[*S]` as a DICOM-SEG that refers to its source images.

    Args:
        path: path of the file.
        label: classes `[*S]`.
        like: image returned by `read_series`.
        names: names of the classes, the background first.
        algorithm: name of the algorithm that made the segmentation.

    Raises:
        UserError: the image did not come from DICOM, lacks attributes that a segmentation requires,
            or the file cannot be written.
    """
    source = like.header
    if not isinstance(source, Source):
        raise UserError(
            f"{path}: a DICOM segmentation refers to DICOM images; this image is not DICOM."
        )
    method = hd.AlgorithmIdentificationSequence(
        name=algorithm[:64], version=__version__, family=codes.DCM.ArtificialIntelligence
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=method,
        )
        for k, name in enumerate(names[1:], start=1)
    ]
    label = label.astype(np.uint8)
    pixels = label[None] if source.volume is None else source.volume.with_array(label)
    try:
        with lenient():  # highdicom warns about empty masks; it writes them with all frames
            segmentation = hd.seg.Segmentation(
                source_images=source.datasets,
                pixel_array=pixels,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=segments,
                series_instance_uid=hd.UID(),
                series_number=9000,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer="cDAL",
                manufacturer_model_name="cDAL",
                software_versions=__version__,
                device_serial_number="0",
                series_description=f"cDAL {algorithm}"[:64],
                content_label="SEGMENTATION",  # the default needs a modality of one word
            )
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no DICOM segmentation can be made from this series: "
            f"{reason_of(error, source.datasets)}. Convert it to NIfTI, and segment that."
        ) from error
    with replacing(path) as temporary, lenient():
        segmentation.save_as(temporary)
