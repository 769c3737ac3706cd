"""The hippocampus of the Medical Segmentation Decathlon (Task 04)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cdal.datasets.public.base import (
    Prepared,
    PublicSet,
    copy,
    describe,
    digest,
    known_digests,
    need_some,
)
from cdal.imaging.formats import read_image, read_label, stem_of, suffix_of
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report

_COMPLETE = 260
_CLASSES = {"background": 0, "Anterior": 1, "Posterior": 2}
_LARGEST = 80
"""Largest number of voxels along an axis; the crops of the set have 24 to 59."""


def _prepare(source: Path, folder: Path, report: Report) -> Prepared:
    roots = sorted({path.parent for path in source.rglob("imagesTr") if path.is_dir()})
    need_some(roots, source, "the unpacked Task04_Hippocampus, with imagesTr and labelsTr")
    root = roots[0]
    images = [
        path
        for path in sorted((root / "imagesTr").iterdir())
        if suffix_of(path) and not path.name.startswith(".")
    ]
    need_some(images, root / "imagesTr", "volumes, hippocampus_*.nii.gz")
    known = known_digests("hippocampus")
    left_out: dict[str, str] = {}
    changed, written = [], 0
    for number, path in enumerate(images, start=1):
        label = root / "labelsTr" / path.name
        report(Event("preparing", stem_of(path), number, len(images)))
        reason, image = _unfit(path, label)
        if reason or image is None:
            left_out[str(path)] = reason
            continue
        if digest(image.array) != known.get(stem_of(path)):
            changed.append(stem_of(path))
        copy(path, folder / "imagesTr" / path.name)
        copy(label, folder / "labelsTr" / path.name)
        written += 1
    have = {stem_of(path) for path in images}
    left_out |= {
        str(path): "it has no volume"
        for path in sorted((root / "labelsTr").glob("[!.]*"))
        if suffix_of(path) and stem_of(path) not in have
    }
    if not written:
        raise UserError(
            f"{root}: no volume can be used. The first says: {next(iter(left_out.values()))}."
        )
    describe(folder, SET, _CLASSES)
    notes = (
        [
            f"{len(changed)} volumes are not those of the Decathlon, voxel by voxel: "
            f"{', '.join(changed[:5])}"
        ]
        if changed
        else []
    )
    return Prepared(written, _COMPLETE, left_out, notes)


def _unfit(path: Path, label_path: Path) -> tuple[str, Image | None]:
    """Return why a volume is skipped; or an empty string, and the volume."""
    if not label_path.is_file():
        return "it has no label", None
    try:
        image, label = read_image(path), read_label(label_path)
    except UserError as error:
        return str(error), None
    if image.shape != label.shape:
        return f"its shape is {image.shape}, its label's {label.shape}", None
    if image.affine is None or label.affine is None:
        return "it has no place in space; expected NIfTI", None
    if not np.allclose(image.affine, label.affine, atol=1e-2):
        return "its label lies elsewhere (the affines differ)", None
    values = np.unique(label.array)
    if values.max() > max(_CLASSES.values()):
        return f"its label holds {', '.join(map(str, values))}; expected 0, 1, 2", None
    if len(values) < len(_CLASSES):
        return f"its label holds {', '.join(map(str, values))}: no such anatomy in it", None
    if max(image.shape) > _LARGEST:
        return (
            f"its shape is {image.shape}; the set's crops have at most {_LARGEST} voxels along an "
            "axis",
            None,
        )
    return "", image


SET = PublicSet(
    name="hippocampus",
    title="Medical Segmentation Decathlon, Task04_Hippocampus",
    about="260 MRI volumes of 1 mm, cropped around a hippocampus; anterior and posterior part",
    where="http://medicaldecathlon.com (Task04_Hippocampus.tar)",
    licence="CC BY-SA 4.0",
    citation="A. L. Simpson et al., arXiv:1902.09063",
    prepare=_prepare,
    address="https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
    checksum="md5:9d24dba78a72977dbd1d2e110310f31b",
)
