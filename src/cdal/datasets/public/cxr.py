"""Chest X-rays of Montgomery County and Shenzhen, with masks of the lungs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from cdal.datasets.public.base import Prepared, PublicSet, copy, describe, need_some
from cdal.imaging.formats import read_image, read_label, suffix_of, write_label
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report

_NAME = re.compile(
    r"^(?P<case>(?P<hospital>MCUCXR|CHNCXR)_(?P<number>\d{4})_(?P<finding>[01]))(?:_mask)?$",
    re.IGNORECASE,
)
_COMPLETE = {"MCUCXR": 138, "CHNCXR": 566}
_HOSPITALS = {"MCUCXR": "montgomery", "CHNCXR": "shenzhen"}
_TEST = 138
"""Number of pictures in each test fold of the paper."""

_SHENZHEN = 662
"""Number of pictures of Shenzhen; 566 of them have a mask."""

FIVE_FOLD = "cxr-five-fold"
PAPER_FOLDS = "cxr-paper-folds"


def _prepare(source: Path, folder: Path, report: Report) -> Prepared:
    images, masks = _find(source)
    need_some(
        images, source, "the pictures MCUCXR_*.png and CHNCXR_*.png (CXR_png) and their masks"
    )
    left_out = {str(images[name]): "it has no mask" for name in sorted(set(images) - set(masks))}
    left_out |= {
        str(masks[name][0]): "it has no picture" for name in sorted(set(masks) - set(images))
    }
    names = sorted(set(images) & set(masks))
    need_some(
        names,
        source,
        "masks of the same names (masks/, or ManualMask/leftMask and rightMask), with or without "
        "_mask",
    )
    for number, name in enumerate(names, start=1):
        image = read_image(images[name])
        lungs = np.zeros(image.shape, bool)
        # Montgomery has a separate mask for each lung.
        for path in masks[name]:
            lung = read_label(path).array[0] > 0
            if lung.shape != image.shape:
                raise UserError(
                    f"{path}: expected the shape of its picture, {image.shape}; it is {lung.shape}."
                )
            lungs |= lung
        copy(images[name], folder / "images" / f"{name}{suffix_of(images[name])}")
        write_label(folder / "labels" / name, lungs, Image(image.array[:1], suffix=".png"))
        report(Event("preparing", name, number, len(names)))
    rows = [_row(name) for name in names]
    describe(folder, SET, {"background": 0, "lung": 1}, rows)
    (folder / "splits.json").write_text(
        json.dumps(partitions(names), indent=1) + "\n", encoding="utf-8"
    )
    counts = {hospital: sum(name.startswith(hospital) for name in names) for hospital in _COMPLETE}
    notes = [
        f"{counts[hospital]} of {count} pairs of {_HOSPITALS[hospital].capitalize()}"
        for hospital, count in _COMPLETE.items()
    ]
    return Prepared(len(names), sum(_COMPLETE.values()), left_out, notes)


def partitions(names: list[str]) -> dict[str, list[dict[str, list[str]]]]:
    """Return the paper's folds and a proper partition, for the given pairs of picture and mask.

    `cxr-paper-folds` is not a partition. Fold 0 trains on Shenzhen and tests on Montgomery. Folds 1
    and 2 test on the first and the last 138 pairs of Shenzhen. If pairs are missing, folds 1 and 2
    test on the pictures numbered up to 138 and from 525 (of 662). These pictures are in the same
    folds if no pair is missing.

    `cxr-five-fold` tests every picture once. Hospitals and findings are spread evenly over its
    folds.
    """
    shenzhen = [name for name in names if name.startswith("CHNCXR")]
    if len(shenzhen) == _COMPLETE["CHNCXR"]:
        first, last = shenzhen[:_TEST], shenzhen[-_TEST:]
    else:
        first = [name for name in shenzhen if _number(name) <= _TEST]
        last = [name for name in shenzhen if _number(name) > _SHENZHEN - _TEST]
    folds = {
        PAPER_FOLDS: [
            {"test": [name for name in names if not name.startswith("CHNCXR")], "train": shenzhen},
            {"test": first},
            {"test": last},
        ]
    }
    by_stratum: dict[str, list[str]] = {}
    for name in names:
        by_stratum.setdefault(_row(name)["stratum"], []).append(name)
    # Deal the cases like cards, one stratum after another; the seed gives the order.
    dealt = [
        name
        for stratum in sorted(by_stratum)
        for name in np.random.default_rng(0).permutation(by_stratum[stratum])
    ]
    folds[FIVE_FOLD] = [{"test": sorted(map(str, dealt[part::5]))} for part in range(5)]
    return folds


def _row(name: str) -> dict[str, str]:
    hospital, number, finding = name.split("_")
    kind = "tuberculosis" if finding == "1" else "normal"
    return {
        "case": name,
        "patient": f"{hospital}_{number}",
        "stratum": f"{_HOSPITALS[hospital]} {kind}",
    }


def _number(name: str) -> int:
    return int(name.split("_")[1])


def _find(source: Path) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    """Return pictures and masks by case, searching all subfolders.

    Files named `*_mask`, or in a folder with `mask` or `label` in its name, are masks.
    """
    images: dict[str, Path] = {}
    masks: dict[str, list[Path]] = {}
    for path in sorted(path for path in source.rglob("*_*") if suffix_of(path)):
        match: Any = _NAME.match(path.name[: -len(suffix_of(path) or "")])
        if match is None:
            continue
        case = match["case"].upper()
        folders = [part.lower() for part in path.relative_to(source).parts[:-1]]
        if path.stem.lower().endswith("_mask") or any(
            "mask" in part or "label" in part for part in folders
        ):
            masks.setdefault(case, []).append(path)
        else:
            images.setdefault(case, path)
    return images, masks


SET = PublicSet(
    name="cxr",
    title="Chest X-rays of Montgomery County and Shenzhen with masks of the lungs",
    about="138 + 566 pictures with masks, normal and with signs of tuberculosis",
    where=(
        "https://data.lhncbc.nlm.nih.gov/public/Tuberculosis-Chest-X-ray-Datasets (pictures, and "
        "masks of Montgomery); https://www.kaggle.com/datasets/yoctoman/shcxr-lung-mask (masks of "
        "Shenzhen)"
    ),
    licence="images: public, for research, citation asked; masks of Shenzhen: CC BY-NC-SA 4.0",
    citation=(
        "S. Jaeger et al., Quant. Imaging Med. Surg. 4(6), 2014; S. Candemir et al., IEEE TMI "
        "33(2), 2014; S. Stirenko et al., arXiv:1803.01199"
    ),
    prepare=_prepare,
)
