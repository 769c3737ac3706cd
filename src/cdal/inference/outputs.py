"""What is written for one segmented image."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.formats import write_label, write_values
from cdal.imaging.formats.tiff import write_tiled
from cdal.imaging.image import Image
from cdal.imaging.rows import Regions, RowStore
from cdal.inference.decision import decide
from cdal.inference.inputs import Input
from cdal.inference.predictor import Prediction, Predictor
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

OUTPUTS = {
    "mask": "the classes, in the image's own format and geometry (DICOM: a DICOM-SEG)",
    "probability": "of each class but the background",
    "uncertainty": "the spread of the votes",
    "votes": "each vote's classes",
    "overlay": "a PNG of the image with the classes' outlines",
    "instances": "numbered objects of a picture's first class, those that touch parted by a watershed",
    "geojson": "the objects of a picture as polygons with holes, in pixels; of the instances where these are saved too",
}
"""What can be saved, and what it is."""


LARGE_OUTPUTS = ("mask", "probability", "uncertainty", "geojson")
"""What can be saved of a picture that is segmented by region."""


_VALUES = ("probability", "uncertainty", "votes")


Free = Callable[[str], Path]
"""From a file's name to its path, refused where somebody else's file is in the way."""


def write_outputs(prediction: Prediction, predictor: Predictor, one: Input, free: Free, save: Collection[str]) -> dict[str, Any]:
    """Write what was asked for; returns the files by kind, and numbers for the record.

    Raises:
        UserError: a place is taken or cannot be written, or a volume was asked for as a picture's objects.
    """
    image, classes = prediction.image, predictor.header.classes
    assert image is not None  # predict keeps what it read
    planar = len(image.shape) == 2
    if objects := sorted({"instances", "geojson"} & set(save)) if not planar else []:
        raise UserError(f"{one.path} is a volume; {' and '.join(objects)} are for pictures.")
    values = _for_values(image)
    paths = {kind: free(_file_name(one, kind, values.suffix if kind in _VALUES else image.suffix)) for kind in save}
    stems = {kind: path.with_name(f"{one.name}_{kind}") for kind, path in paths.items()}
    written: dict[str, Path] = {}
    numbered: np.ndarray | None = None
    if "mask" in save:
        written["mask"] = _write_mask(stems["mask"], prediction.mask, image, classes, predictor.recipe.name)
    if "probability" in save:
        foreground = prediction.probability[1:] if len(classes) > 2 else prediction.probability[1]
        written["probability"] = write_values(stems["probability"], foreground, values)
    if "uncertainty" in save:
        written["uncertainty"] = write_values(stems["uncertainty"], prediction.uncertainty, values)
    if prediction.votes is not None and "votes" in save:
        written["votes"] = write_label(stems["votes"], prediction.votes.argmax(axis=1), values)
    if "overlay" in save:
        from cdal.imaging.overlay import outlined

        written["overlay"] = paths["overlay"]
        with replacing(written["overlay"]) as temporary:
            outlined(image, prediction.mask).save(temporary, format="PNG")
    if "instances" in save:
        from cdal.imaging.objects import number_objects

        numbered = number_objects(prediction.mask == 1, prediction.probability[1])
        written["instances"] = write_label(stems["instances"], numbered, Image(image.array, suffix=".tif"))
    if "geojson" in save:
        from cdal.imaging.annotations.geojson import write_geojson

        objects_of = prediction.mask if numbered is None else numbered
        written["geojson"] = paths["geojson"]
        write_geojson(written["geojson"], lambda a, b: objects_of[a:b], objects_of.shape, classes, numbered is not None)
    inside = prediction.uncertainty[prediction.mask > 0]
    return {
        **{kind: path.name for kind, path in written.items()},
        "volume": {name: float(np.prod(image.spacing)) * int((prediction.mask == k).sum()) for k, name in enumerate(classes) if k},
        "unit": "pixels" if image.affine is None else "mm3",
        "mean_uncertainty": float(inside.mean()) if inside.size else 0.0,
        "vote_count": prediction.count,
    }


def write_by_region(
    predictor: Predictor,
    regions: Regions,
    one: Input,
    free: Free,
    votes: int | None,
    seed: int,
    save: Collection[str],
    scratch: Path,
    on_part: Callable[[float], object] = lambda _: None,
) -> dict[str, Any]:
    """Segment a large picture, some rows in memory at a time, and write tiled TIFFs; returns as `write_outputs`.

    Raises:
        UserError: something was asked for that needs the whole picture in memory, or a place is taken or cannot be written.
    """
    if unable := sorted(set(save) - set(LARGE_OUTPUTS)):
        some = ", ".join(LARGE_OUTPUTS)
        raise UserError(f"{one.path} is so large that it is segmented by region, which gives no {', '.join(unable)}; only {some}.")
    classes, (height, width) = predictor.header.classes, regions.shape
    like, values = regions.like, _for_values(regions.like)
    paths = {kind: free(_file_name(one, kind, values.suffix if kind in _VALUES else like.suffix)) for kind in save}
    mask = RowStore(scratch / "mask", width, np.uint8)
    stores = {kind: RowStore(scratch / kind, width, np.float32) for kind in ("probability", "uncertainty") if kind in save}
    counts = np.zeros(len(classes), np.int64)
    uncertain = 0.0
    for probability, uncertainty in predictor.predict_by_region(regions, str(one.path), votes, seed, one.name, on_part):
        decided = decide(probability)
        mask.append(decided)
        counts += np.bincount(decided.ravel(), minlength=len(classes))
        uncertain += float(uncertainty[decided > 0].sum())
        if "probability" in stores:
            stores["probability"].append(probability[1] if len(classes) == 2 else probability[1:].max(axis=0))
        if "uncertainty" in stores:
            stores["uncertainty"].append(uncertainty)
    for kind, store in {"mask": mask, **stores}.items():
        if kind not in save:
            continue
        stem = paths[kind].with_name(f"{one.name}_{kind}")
        if like.suffix in (".tif", ".tiff"):
            write_tiled(paths[kind], store, height, like, labels=kind == "mask")
        elif kind == "mask":  # a format that is written in one piece
            _write_mask(stem, store.rows(0, height), like, classes, predictor.recipe.name)
        else:
            write_values(stem, store.rows(0, height), values)
    if "geojson" in save:
        from cdal.imaging.annotations.geojson import write_geojson

        write_geojson(paths["geojson"], mask.rows, (height, width), classes)
    return {
        **{kind: path.name for kind, path in paths.items()},
        "volume": {name: float(counts[k]) for k, name in enumerate(classes) if k},
        "unit": "pixels",
        "mean_uncertainty": uncertain / max(1, int(counts[1:].sum())),
        "vote_count": predictor.vote_count(votes),
    }


def _file_name(one: Input, kind: str, suffix: str) -> str:
    """What a result is called; `suffix` is that of masks and values."""
    if kind == "geojson":
        return f"{one.name}_objects.geojson"
    return f"{one.name}_{kind}{ {'overlay': '.png', 'instances': '.tif'}.get(kind, suffix) }"


def _for_values(image: Image) -> Image:
    """The image whose format takes the values: DICOM images get NIfTI volumes and PNG pictures; BMP has too few bits."""
    if image.suffix not in (".dcm", ".bmp"):
        return image
    return Image(image.array, image.affine, ".png" if image.affine is None else ".nii.gz")


def _write_mask(stem: Path, mask: np.ndarray, image: Image, classes: tuple[str, ...], algorithm: str) -> Path:
    if image.suffix != ".dcm":
        return write_label(stem, mask, image)
    from cdal.imaging.annotations.dicom_seg import write_segmentation

    path = stem.with_name(f"{stem.name}.dcm")
    write_segmentation(path, mask, image, classes, algorithm)
    return path
