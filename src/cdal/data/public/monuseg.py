"""MoNuSeg: images and XML outlines of nuclei as images and masks."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ElementTree  # the parser resolves no external entities
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from cdal.data.formats import read_image, read_label, stem_of, suffix_of, write_label
from cdal.data.image import Image
from cdal.data.public.base import Prepared, Progress, PublicSet, copy, describe, digest, known_digests, need_some
from cdal.errors import UserError

_SPLIT = {"train": 30, "test": 14}


def rasterise(outlines: Iterator[np.ndarray] | list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Numbered objects `[H, W]` (int32) of outlines: each is its filled polygon, outline pixels included; a later one lies on top.

    Args:
        outlines: `[N, 2]` each, x (column) and y (row) in pixels; fractions are cut off.
        shape: rows and columns.
    """
    picture = Pillow.new("I", (shape[1], shape[0]))
    draw = ImageDraw.Draw(picture)
    for number, outline in enumerate(outlines, start=1):
        points = [(float(x), float(y)) for x, y in np.floor(outline)]
        if len(points) > 2:
            draw.polygon(points, fill=number, outline=number)
    return np.asarray(picture, np.int32)


def read_outlines(path: Path) -> list[np.ndarray]:
    """The polygons of an Aperio ImageScope XML file (`.xml`, `.xml.gz`), `[N, 2]` of x and y in pixels.

    Raises:
        UserError: the file is damaged, or holds no outline.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        root = ElementTree.fromstring(content)
        outlines = [
            np.array([(float(vertex.attrib["X"]), float(vertex.attrib["Y"])) for vertex in region.iter("Vertex")])
            for region in root.iter("Region")
        ]
    except (OSError, EOFError, zlib.error, ElementTree.ParseError, LookupError, ValueError) as error:
        raise UserError(f"{path} cannot be read as an annotation: {error}. Expected the XML of Aperio ImageScope.") from error
    outlines = [outline for outline in outlines if len(outline)]
    if not outlines:
        raise UserError(f"{path}: expected outlines (Region elements with Vertex elements); it holds none.")
    return outlines


def _prepare(source: Path, folder: Path, on_progress: Progress) -> Prepared:
    known = known_digests("monuseg")
    images, masks, annotations = _find(source)
    need_some(images, source, "the images of MoNuSeg, TCGA-*.tif or .png")
    left_out = {str(images[name]): "none of the 44 images of the challenge" for name in sorted(set(images) - set(known))}
    rows, notes, changed = [], [], []
    names = sorted(set(images) & set(known))
    for name in names:
        image = read_image(images[name])
        on_progress(name, len(names))
        if name not in annotations and name not in masks:
            left_out[str(images[name])] = "neither its XML annotation nor a mask is there"
            continue
        if digest(image.array) != known[name]["digest"]:
            changed.append(name)
        like = Image(image.array[:1], suffix=".png")
        if name in annotations:
            objects = rasterise(read_outlines(annotations[name]), (image.shape[0], image.shape[1]))
            write_label(folder / "instances" / name, objects, Image(like.array, suffix=".tif"))
            mask = objects > 0
        else:
            mask = read_label(masks[name]).array[0] > 0
            if mask.shape != image.shape:
                raise UserError(f"{masks[name]}: expected the shape of its image, {image.shape}; it is {mask.shape}.")
        copy(images[name], folder / "images" / f"{name}{suffix_of(images[name])}")
        write_label(folder / "labels" / name, mask, like)
        rows.append({"case": name, "patient": name[:12], "split": known[name]["split"]})
    need_some(rows, source, "an XML annotation or a mask beside each image")
    describe(folder, SET, {"background": 0, "nucleus": 1}, rows)
    for split, count in _SPLIT.items():
        here = sum(row["split"] == split for row in rows)
        notes.append(f"{here} of {count} {split} images")
    outlined = len(list((folder / "instances").glob("*"))) if (folder / "instances").is_dir() else 0
    notes.append(f"{outlined} with outlines of single nuclei (instances/)")
    if changed:
        notes.append(f"{len(changed)} images are not those of the challenge, pixel by pixel: {', '.join(changed[:5])}")
    return Prepared(len(rows), sum(_SPLIT.values()), left_out, notes)


def _find(source: Path) -> tuple[dict[str, Path], dict[str, Path], dict[str, Path]]:
    """Images, masks and annotations by name, wherever they lie; a folder with `mask` or `label` in its name holds masks."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    annotations: dict[str, Path] = {}
    for path in sorted(source.rglob("TCGA-*")):
        if path.name.lower().endswith((".xml", ".xml.gz")):
            annotations.setdefault(path.name.split(".")[0], path)
        elif suffix_of(path):
            stem = stem_of(path)
            folders = {part.lower() for part in path.relative_to(source).parts[:-1]}
            is_mask = stem.lower().endswith(("_mask", "_bin_mask")) or any("mask" in f or "label" in f for f in folders)
            if "instances" in folders:
                continue
            kept: Mapping[str, Path] = masks if is_mask else images
            kept.setdefault(stem.split("_")[0], path)  # type: ignore[attr-defined]
    return images, masks, annotations


SET = PublicSet(
    name="monuseg",
    title="MoNuSeg 2018, Multi-Organ Nucleus Segmentation",
    about="H&E tissue at 40x, 1000 x 1000 pixels: 30 images for training, 14 for the test",
    where="https://monuseg.grand-challenge.org/Data/ (two archives, behind links to a file store; no login)",
    licence="CC BY-NC-SA 4.0 (non-commercial)",
    citation="N. Kumar et al., IEEE TMI 36(7), 2017; N. Kumar et al., IEEE TMI 39(5), 2020",
    prepare=_prepare,
)
