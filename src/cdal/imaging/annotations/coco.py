"""COCO JSON: polygons and run-length encoded masks of many pictures in one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.content import matches, read_json, remembered
from cdal.imaging.annotations.polygons import (
    bitmap,
    fill_parts,
    need_picture,
    need_points,
    need_same_size,
    nothing,
)
from cdal.imaging.annotations.shared import base_name, filled, find_image, places_of
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError


def recognises(path: Path) -> bool:
    """Whether a file holds annotations or categories in lists."""
    return matches(path, rb'"(annotations|categories)"\s*:\s*\[')


def class_names(path: Path) -> Iterator[str]:
    """Yield the name of each category, whether an annotation has it or not."""
    return (str(category["name"]) for category in _content(path)["categories"])


def image_names(path: Path) -> Iterator[str]:
    """Yield the file name of each picture, without its folders."""
    return (base_name(str(image["file_name"])) for image in _content(path)["images"])


def read(path: Path, like: Image, image: str) -> Iterator[Segment]:
    """Yield the annotations of the picture with a file name; of the only one, if there is one.

    The polygons of an annotation belong together. An annotation without segmentation (a box only)
    covers no pixel.

    Raises:
        UserError: the file does not list the picture exactly once, the sizes differ, or a
            run-length encoding is damaged.
    """
    shape = need_picture(like, "a COCO annotation")
    content = _content(path)
    entry = content["images"][find_image(image, content["places"])]
    need_same_size((entry.get("height"), entry.get("width")), shape, image)
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    for annotation in content["annotations"][entry["id"]]:
        category = annotation.get("category_id")
        if category is not None and category not in names:
            raise UserError(
                f"an annotation of {image} has the category {category}, which is not listed."
            )
        yield _segment(names.get(category, ""), annotation.get("segmentation"), shape)


def write(path: Path, pictures: Iterable[tuple[str, np.ndarray]], classes: Sequence[str]) -> None:
    """Write the objects of masks as run-length encoded annotations, which hold every pixel.

    Args:
        path: path to write to; the caller makes it appear whole.
        pictures: file name and classes `[H, W]` of each picture.
        classes: names of the classes, the background first. Category k is class k.
    """
    categories = [{"id": k, "name": name} for k, name in enumerate(classes) if k]
    images = []
    count = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for number, (name, label) in enumerate(pictures, start=1):
            height, width = label.shape
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for value in range(1, len(classes)):
                numbered, _ = ndimage.label(label == value)
                for k, box in enumerate(ndimage.find_objects(numbered), start=1):
                    count += 1
                    annotation = _annotation(numbered == k, box)
                    annotation |= {"id": count, "image_id": number, "category_id": value}
                    file.write(("," if count > 1 else "") + "\n" + json.dumps(annotation))
        file.write(
            f'\n], "categories": {json.dumps(categories)}, "images": {json.dumps(images)}}}\n'
        )


def _annotation(mask: np.ndarray, box: tuple[slice, slice]) -> dict[str, Any]:
    rows, columns = box
    return {
        "segmentation": {"size": list(mask.shape), "counts": encoded(mask)},
        "area": int(mask.sum()),
        "bbox": [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start],
        "iscrowd": 0,
    }


@remembered
def _content(path: Path) -> dict[str, Any]:
    """Return images, their places by name, categories, and annotations by the id of their image.

    Raises:
        UserError: a list is missing, an id occurs twice, or an annotation is of no image.
    """
    content = read_json(path)
    lists = {
        key: content.get(key) if isinstance(content, dict) else None
        for key in ("images", "annotations", "categories")
    }
    for key, rows in lists.items():
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f'{path}: expected COCO JSON with a list "{key}" of objects.')
    images, annotations, categories = (list(rows or ()) for rows in lists.values())
    for key, rows in (("images", images), ("categories", categories)):
        if len({row["id"] for row in rows}) < len(rows):
            raise UserError(f'{path}: expected an id of its own for each of "{key}".')
    by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for annotation in annotations:
        if annotation["image_id"] not in by_image:
            raise UserError(
                f"{path}: an annotation is of the image {annotation['image_id']!r}, which it does "
                "not list. Export it again."
            )
        by_image[annotation["image_id"]].append(annotation)
    places = places_of(base_name(str(image["file_name"])) for image in images)
    return {"images": images, "categories": categories, "annotations": by_image, "places": places}


def _segment(name: str, given: Any, shape: tuple[int, int]) -> Segment:
    """Return the segment of polygons, of a run-length encoding, or of neither."""
    if not given:
        return nothing(name, 2)
    if isinstance(given, dict):
        return bitmap(name, decoded(given, shape), 0, 0, shape)
    if not isinstance(given, list):
        raise UserError(f"expected polygons or a run-length encoding; there is {given!r:.80}.")
    if not isinstance(given[0], list):
        given = [given]  # some programs leave out the list around a single polygon
    if any(len(ring) % 2 for ring in given):
        raise UserError("expected x and y in turn; a polygon has an odd number of coordinates.")
    rings = [need_points([*zip(ring[::2], ring[1::2], strict=True)]) for ring in given]
    return fill_parts(name, [[ring] for ring in rings], shape)


def decoded(given: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """Decode a run-length encoding, column by column, as `[H, W]` bool.

    pycocotools' own decoder reads beyond the end of damaged text, which ends the process.

    Raises:
        UserError: its size is not that of the picture, or its runs do not fill it.
    """
    height, width = given["size"]
    need_same_size((height, width), shape, "a run-length encoding")
    counts = given["counts"]
    return filled(_runs(counts) if isinstance(counts, str) else list(counts), shape[::-1]).T


def _runs(text: str) -> list[int]:
    """Decode COCO's text: 5 bits a character, from run 3 on the difference to the run before last.

    Raises:
        UserError: a character is none of the encoding, or the text ends within a number.
    """
    runs: list[int] = []
    number = shift = 0
    for character in text:
        value = ord(character) - 48
        if not 0 <= value < 64 or shift > 60:
            raise UserError(f"expected a compressed run-length encoding; it holds {character!r}.")
        number |= (value & 31) << shift
        shift += 5
        if not value & 32:
            number -= (1 << shift) if value & 16 else 0
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    if shift:
        raise UserError("expected a compressed run-length encoding; it ends within a number.")
    return runs


def encoded(mask: np.ndarray) -> str:
    """Encode a mask `[H, W]` as COCO's text, the inverse of `decoded`."""
    column_major = np.asarray(mask, bool).T.ravel()
    edges = np.flatnonzero(np.diff(column_major, prepend=False))
    runs = np.diff([0, *edges, column_major.size]).tolist()
    text = []
    for i, run in enumerate(runs):
        number = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            value = number & 31
            number >>= 5
            more = number != (-1 if value & 16 else 0)
            text.append(chr((value | (32 if more else 0)) + 48))
    return "".join(text)
