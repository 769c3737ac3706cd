"""Results of a prediction: which there are, and how each is written."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdal.imaging.formats import write_label, write_values
from cdal.imaging.image import Image
from cdal.imaging.rows import Kept
from cdal.inference.decision import classes_of_votes
from cdal.inference.inputs import Input
from cdal.inference.segmented import Segmented, need_whole
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing


@dataclass(frozen=True)
class Result:
    """One segmented image, as the writers of its results need it.

    Attributes:
        segmented: the segmentation.
        like: image with the format and geometry of the input.
        classes: names of the classes, the background first.
        algorithm: name of the recipe, for DICOM.
        instances: numbered objects `[H, W]`, after they were computed.
    """

    segmented: Segmented
    like: Image
    classes: tuple[str, ...]
    algorithm: str
    instances: list[np.ndarray]


@dataclass(frozen=True)
class Output:
    """One kind of result.

    Attributes:
        about: description in one line.
        write: writes the file, `(path, result)`.
        needs: parts of the segmentation to keep, in addition to the mask.
        whole: whether it needs the whole image in memory.
        planar: whether only pictures have it.
        series: whether only DICOM series have it.
        suffix: suffix of its file; that of masks if "", that of values if `None`.
    """

    about: str
    write: Callable[[Path, Result], object]
    needs: tuple[str, ...] = ()
    whole: bool = False
    planar: bool = False
    series: bool = False
    suffix: str | None = ""


def paths_of(
    source: Input, like: Image, save: Collection[str], claim: Callable[[str], Path]
) -> dict[str, Path]:
    """Path of each result. `claim` turns a name into a path, and refuses a name that is taken.

    Raises:
        UserError: a name is taken, or a result is for DICOM series only.
    """
    suffixes = {"": like.suffix, None: _for_values(like).suffix}
    paths = {}
    for kind, output in OUTPUTS.items():
        if kind in save:
            name = "objects" if kind == "geojson" else kind
            if output.series:
                from cdal.imaging.annotations.rtstruct import need_series

                need_series(source.path, like)
            paths[kind] = claim(f"{source.name}_{name}{suffixes.get(output.suffix, output.suffix)}")
    return paths


def need_possible(save: Collection[str], shape: tuple[int, ...], name: str, votes: int) -> None:
    """Refuse results that are not possible for an image.

    Raises:
        UserError: a result is for pictures only, or the image is too large for it.
    """
    if pictures := sorted(kind for kind in save if OUTPUTS[kind].planar and len(shape) != 2):
        raise UserError(f"{name} is a volume; {' and '.join(pictures)} are for pictures.")
    rest = ", ".join(kind for kind, output in OUTPUTS.items() if not output.whole)
    for kind in save:
        if OUTPUTS[kind].whole:
            need_whole(
                name,
                shape,
                f"results of the kind {kind}",
                f"Save {rest}.",
                votes if kind == "votes" else 1,
            )


def _for_values(image: Image) -> Image:
    """An image whose format can hold values: NIfTI or PNG instead of DICOM, PNG instead of BMP."""
    if image.suffix not in (".dcm", ".bmp"):
        return image
    return Image(image.array, image.affine, ".png" if image.affine is None else ".nii.gz")


def _tiled(kept: Kept | None, like: Image) -> Kept | None:
    """The rows, if they are on disk and the format can be written some rows at a time."""
    return (
        kept
        if kept is not None and kept.path is not None and like.suffix in (".tif", ".tiff")
        else None
    )


def _write_mask(path: Path, result: Result) -> None:
    like = result.like
    if tiled := _tiled(result.segmented.mask, like):
        from cdal.imaging.formats.tiff import write_tiled

        write_tiled(path, tiled, like, labels=True)
    elif like.suffix == ".dcm":
        from cdal.imaging.annotations.dicom_seg import write_segmentation

        write_segmentation(
            path, result.segmented.straight("mask"), like, result.classes, result.algorithm
        )
    else:
        write_label(_stem(path, like), result.segmented.straight("mask"), like)


def _write_values(path: Path, result: Result, name: str) -> None:
    like = _for_values(result.like)
    if tiled := _tiled(getattr(result.segmented, name), like):
        from cdal.imaging.formats.tiff import write_tiled

        write_tiled(path, tiled, like, labels=False)
    else:
        write_values(_stem(path, like), result.segmented.straight(name), like)


def _write_probability(path: Path, result: Result) -> None:
    _write_values(path, result, "foreground")


def _write_uncertainty(path: Path, result: Result) -> None:
    _write_values(path, result, "uncertainty")


def _write_votes(path: Path, result: Result) -> None:
    like = _for_values(result.like)
    write_label(_stem(path, like), classes_of_votes(result.segmented.straight("votes")), like)


def _write_overlay(path: Path, result: Result) -> None:
    from cdal.imaging.overlay import outlined

    frame = result.segmented.frame
    image = (
        frame.image
        if isinstance(frame.image, Image)
        else Image(frame.image.rows(0, frame.own[0]), stored=frame.image.stored)
    )
    with replacing(path) as temporary:
        outlined(image, result.segmented.straight("mask")).save(temporary, format="PNG")


def _write_instances(path: Path, result: Result) -> None:
    from cdal.imaging.objects import number_objects

    probability = result.segmented.straight("foreground")
    first = probability if probability.ndim == 2 else probability[0]
    result.instances.append(number_objects(result.segmented.straight("mask") == 1, first))
    like = Image(np.zeros((1, 0, 0), np.float32), suffix=".tif")
    write_label(_stem(path, like), result.instances[0], like)


def _write_geojson(path: Path, result: Result) -> None:
    from cdal.imaging.annotations.geojson import write_geojson

    mask, numbers = result.segmented.mask, result.instances
    rows = (lambda start, stop: numbers[0][start:stop]) if numbers else mask.rows
    write_geojson(path, rows, (mask.count, mask.rest[0]), result.classes, bool(numbers))


def _write_structures(path: Path, result: Result) -> None:
    from cdal.imaging.annotations.rtstruct import write_structures

    write_structures(
        path, result.segmented.straight("mask"), result.like, result.classes, result.algorithm
    )


def _stem(path: Path, like: Image) -> Path:
    return path.with_name(path.name.removesuffix(like.suffix))


OUTPUTS = {
    "mask": Output(
        "the classes, in the image's own format and geometry (DICOM: a DICOM-SEG)", _write_mask
    ),
    "probability": Output(
        "of each class but the background", _write_probability, needs=("foreground",), suffix=None
    ),
    "uncertainty": Output(
        "the spread of the votes", _write_uncertainty, needs=("uncertainty",), suffix=None
    ),
    "votes": Output("each vote's classes", _write_votes, needs=("votes",), whole=True, suffix=None),
    "overlay": Output(
        "a PNG of the image with the classes' outlines", _write_overlay, whole=True, suffix=".png"
    ),
    "instances": Output(
        "numbered objects of a picture's first class, those that touch parted by a watershed",
        _write_instances,
        needs=("foreground",),
        whole=True,
        planar=True,
        suffix=".tif",
    ),
    "geojson": Output(
        "the objects of a picture as polygons with holes, in pixels; of the instances if these "
        "are saved too",
        _write_geojson,
        planar=True,
        suffix=".geojson",
    ),
    "rtstruct": Output(
        "the classes of a DICOM series as contours (RTSTRUCT), beside the DICOM-SEG",
        _write_structures,
        whole=True,
        series=True,
        suffix=".dcm",
    ),
}
"""Every kind of result, in the order in which they are written."""
