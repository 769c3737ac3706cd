"""The cases of a simulation in a data folder of its own, with a partition for every training."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from cdal.datasets.check import Check
from cdal.datasets.layout import CASES, CaseFiles, DataFolder
from cdal.datasets.partition import groups_of, split_cases
from cdal.datasets.reading import read_case
from cdal.datasets.tables import PARTS, read_about, read_partitions
from cdal.experiments.ranking import Rounds
from cdal.imaging.formats import stem_of, suffix_of, write_label
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import scratch_folder, write_json, write_text
from cdal.runtime.os_errors import told_as
from cdal.runtime.text import text_cell
from cdal.training.calibrate import some_of

_NOT_ALONE = (None, ".dcm", ".mhd", ".nhdr")
"""Suffixes of files that are not all of an image, or do not hold labels as they do images."""

_SPLITS, _ALL = "splits.json", "all"


@dataclass(frozen=True)
class Pool:
    """The cases of a simulation.

    Attributes:
        folder: data folder.
        parts: names of the cases by part; those for training can be picked.
        patients: patient of each case.
    """

    folder: Path
    parts: Mapping[str, list[str]]
    patients: Mapping[str, str]

    def images(self, cases: Collection[str]) -> dict[Path, str]:
        """The image files of cases, with the names of the cases."""
        files = sorted((self.folder / "images").iterdir())
        by_name = {stem_of(path): path for path in files}
        return {by_name[name]: name for name in cases}

    def add_partition(self, name: str, cases: Collection[str]) -> None:
        """Add the partition of a training with these cases.

        Raises:
            UserError: it is there with other cases, because an earlier call picked others.
        """
        folds = read_partitions(self.folder / _SPLITS)
        wanted = [{**self.parts, "train": sorted(cases)}]
        if folds.get(name, wanted) != wanted:
            raise UserError(
                f"{self.folder}: the partition {name} has other cases than now. Were settings "
                "changed? Give another --out."
            )
        if name not in folds:
            write_json(self.folder / _SPLITS, {**folds, name: wanted})


@dataclass(frozen=True)
class _Item:
    """A case of the simulation: a whole case, or a tile of it at `corner`."""

    name: str
    case: CaseFiles
    corner: tuple[int, int] | None = None


def make_pool(experiment: Rounds, data: Check, folder: Path, report: Report = silent) -> Pool:
    """Write the cases of a simulation into a data folder, unless it is there.

    Images are copied, or cut into tiles. Labels are written as masks of classes.

    Raises:
        UserError: there are too few cases, the cases cannot be used for a simulation, or the folder
            has other cases than now.
    """
    items = _items(experiment, data)
    parts = {part: [item.name for item in items[part]] for part in PARTS}
    if not folder.is_dir():
        with scratch_folder(folder.parent) as scratch:
            with told_as(scratch / "pool", folder):
                _write(experiment, data.folder, items, scratch / "pool", report)
            (scratch / "pool").replace(folder)
    if read_partitions(folder / _SPLITS).get(_ALL) != [parts]:
        raise UserError(
            f"{folder} has other cases than this experiment takes now. Give another --out."
        )
    table = read_about(folder / CASES)
    return Pool(folder, parts, {case: row["patient"] for case, row in table.items()})


def _items(experiment: Rounds, data: Check) -> dict[str, list[_Item]]:
    """The cases of each part, sorted by name; evenly spaced ones if not all are taken."""
    split = split_cases(data.folder, experiment.base().data)
    shapes = {fact.name: fact.shape for fact in data.facts}
    counts = {
        "train": experiment.pool,
        "validation": experiment.validation,
        "test": experiment.test,
    }
    items = {}
    for part in PARTS:
        cases = [
            item
            for case in getattr(split, part)
            for item in _tiles(case, shapes[case.name], experiment)
        ]
        items[part] = list(some_of(cases, counts[part]))
    if len(items["train"]) < experiment.sizes[-1]:
        raise UserError(
            f"{data.folder.root}: expected at least {experiment.sizes[-1]} training cases; there "
            f"are {len(items['train'])}."
        )
    return items


def _tiles(case: CaseFiles, shape: tuple[int, ...], experiment: Rounds) -> list[_Item]:
    tile = experiment.tile
    if tile is None:
        return [_Item(case.name, case)]
    if len(shape) != 2 or min(shape) < tile:
        raise UserError(
            f"{case.image}: expected a picture of {tile} pixels a side or more; its shape is "
            f"{shape}."
        )
    if experiment.middle:
        return [_Item(case.name, case, ((shape[0] - tile) // 2, (shape[1] - tile) // 2))]
    corners = itertools.product(*(range(0, length - tile + 1, tile) for length in shape))
    return [_Item(f"{case.name}_{top}_{left}", case, (top, left)) for top, left in corners]


def _write(
    experiment: Rounds,
    source: DataFolder,
    items: Mapping[str, Sequence[_Item]],
    folder: Path,
    report: Report,
) -> None:
    groups = groups_of(source, source.cases, experiment.base().data.patient)
    by_case: defaultdict[str, list[_Item]] = defaultdict(list)
    for item in itertools.chain(*items.values()):
        by_case[item.case.name].append(item)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number, (name, of_case) in enumerate(by_case.items(), start=1):
        case = of_case[0].case
        image, labels = read_case(case, source)
        for item in of_case:
            _write_item(item, image, labels, experiment.tile, folder)
        report(Event("preparing", name, number, len(by_case)))
    declared = {
        "name": experiment.name,
        "labels": {name: k for k, name in enumerate(source.classes)},
        "licence": source.licence,
    }
    (folder / "dataset.json").write_text(json.dumps(declared, indent=1) + "\n", encoding="utf-8")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient"])
    for item in itertools.chain(*items.values()):
        writer.writerow([text_cell(item.name), text_cell(groups[item.case.name])])
    write_text(folder / CASES, text.getvalue())
    parts = {part: [item.name for item in of_part] for part, of_part in items.items()}
    write_json(folder / _SPLITS, {_ALL: [parts]})


def _write_item(
    item: _Item, image: Image, labels: Sequence[Image], tile: int | None, folder: Path
) -> None:
    case = item.case
    suffix = suffix_of(case.image)
    if len(case.images) > 1 or case.slices or suffix in _NOT_ALONE:
        raise UserError(
            f"{case.image}: simulations take images that are one file, and no DICOM. Convert it "
            "first."
        )
    target, like = folder / "images" / item.name, image
    part: tuple[slice, ...] = ()
    if item.corner is None or tile is None:
        shutil.copyfile(case.image, target.with_name(f"{item.name}{suffix}"))
    else:
        part = tuple(slice(corner, corner + tile) for corner in item.corner)
        array = image.array[:, part[0], part[1]]
        pixels = np.moveaxis(array, 0, -1)
        if image.stored != np.uint8 or pixels.shape[-1] not in (1, 3):
            raise UserError(
                f"{case.image}: expected a picture of 8 bits in gray or colours to cut into tiles."
            )
        picture = pixels.astype(np.uint8)
        Pillow.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(
            target.with_name(f"{item.name}.png")
        )
        like = Image(array, suffix=".png")
    for number, label in enumerate(labels):
        rater = f"_rater{number}" if len(labels) > 1 else ""
        write_label(folder / "labels" / f"{item.name}{rater}", label.array[0][part], like)
