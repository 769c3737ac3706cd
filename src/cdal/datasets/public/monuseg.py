"""MoNuSeg: images and XML outlines of nuclei, converted to images and masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cdal.datasets.public.base import (
    Prepared,
    PublicSet,
    copy,
    describe,
    digest,
    known_digests,
    need_some,
)
from cdal.imaging.annotations.aperio import rasterise, read_outlines
from cdal.imaging.formats import read_image, read_label, stem_of, suffix_of, write_label
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report

_SPLIT = {"train": 30, "test": 14}


def _prepare(source: Path, folder: Path, report: Report) -> Prepared:
    known = known_digests("monuseg")
    images, masks, annotations = _find(source)
    need_some(images, source, "the images of MoNuSeg, TCGA-*.tif or .png")
    left_out = {
        str(images[name]): "none of the 44 images of the challenge"
        for name in sorted(set(images) - set(known))
    }
    rows, notes, changed = [], [], []
    names = sorted(set(images) & set(known))
    for number, name in enumerate(names, start=1):
        image = read_image(images[name])
        report(Event("preparing", name, number, len(names)))
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
                raise UserError(
                    f"{masks[name]}: expected the shape of its image, {image.shape}; it is "
                    f"{mask.shape}."
                )
        copy(images[name], folder / "images" / f"{name}{suffix_of(images[name])}")
        write_label(folder / "labels" / name, mask, like)
        rows.append({"case": name, "patient": name[:12], "split": known[name]["split"]})
    need_some(rows, source, "an XML annotation or a mask beside each image")
    describe(folder, SET, {"background": 0, "nucleus": 1}, rows)
    for split, count in _SPLIT.items():
        written = sum(row["split"] == split for row in rows)
        notes.append(f"{written} of {count} {split} images")
    outlined = len(list((folder / "instances").glob("*"))) if (folder / "instances").is_dir() else 0
    notes.append(f"{outlined} with outlines of single nuclei (instances/)")
    if changed:
        notes.append(
            f"{len(changed)} images are not those of the challenge, pixel by pixel: "
            f"{', '.join(changed[:5])}"
        )
    return Prepared(len(rows), sum(_SPLIT.values()), left_out, notes)


def _find(source: Path) -> tuple[dict[str, Path], dict[str, Path], dict[str, Path]]:
    """Return images, masks and annotations by name, searching all subfolders.

    Files named `*_mask`, or in a folder with `mask` or `label` in its name, are masks.
    """
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    annotations: dict[str, Path] = {}
    for path in sorted(source.rglob("TCGA-*")):
        if path.name.lower().endswith((".xml", ".xml.gz")):
            annotations.setdefault(path.name.split(".")[0], path)
        elif suffix_of(path):
            stem = stem_of(path)
            folders = {part.lower() for part in path.relative_to(source).parts[:-1]}
            is_mask = stem.lower().endswith(("_mask", "_bin_mask")) or any(
                "mask" in f or "label" in f for f in folders
            )
            if "instances" in folders:
                continue
            kept: Mapping[str, Path] = masks if is_mask else images
            kept.setdefault(stem.split("_")[0], path)  # type: ignore[attr-defined]
    return images, masks, annotations


SET = PublicSet(
    name="monuseg",
    title="MoNuSeg 2018, Multi-Organ Nucleus Segmentation",
    about="H&E tissue at 40x, 1000 x 1000 pixels: 30 images for training, 14 for the test",
    where=(
        "https://monuseg.grand-challenge.org/Data/ (two archives, behind links to a file store; "
        "no login)"
    ),
    licence="CC BY-NC-SA 4.0 (non-commercial)",
    citation="N. Kumar et al., IEEE TMI 36(7), 2017; N. Kumar et al., IEEE TMI 39(5), 2020",
    prepare=_prepare,
)
