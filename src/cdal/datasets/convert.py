"""Turning the labels of a data folder into another form."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cdal.datasets.folder import open_folder
from cdal.datasets.layout import CASES, Annotation, CaseFiles, DataFolder
from cdal.datasets.reading import read_case
from cdal.datasets.tables import read_json
from cdal.imaging.formats import suffix_of, write_label
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.files import new_folder
from cdal.runtime.text import text_cell

_OF_FILES = ("training", "test", "numTraining", "numTest", "file_ending", "regions_class_order")
"""Keys of dataset.json that say which files there are."""

_LONGEST_IN_DICOM = 64
"""Longest label of a DICOM segment."""

_RATER = re.compile(r"_(rater\d+)(?=\.|$)")
_SIDE_FILE = re.compile(rb"^(?:ElementDataFile *=|data ?file:) *(.+?)\s*$", re.MULTILINE | re.I)


@dataclass(frozen=True)
class Label:
    """The label of a case by one annotator, as the writers of a form need it.

    Attributes:
        stem: path of the new file, without its suffix.
        array: classes `[*S]`.
        image: the image.
        image_name: new file name of the image.
        classes: names of the classes, the background first.
        values: value of each class in a label image.
    """

    stem: Path
    array: np.ndarray
    image: Image
    image_name: str
    classes: tuple[str, ...]
    values: tuple[int, ...]

    def path(self, suffix: str) -> Path:
        """Path of the new file."""
        return self.stem.with_name(self.stem.name + suffix)


@dataclass(frozen=True)
class Form:
    """A form of labels.

    Attributes:
        about: description in one line.
        write: function that writes a label.
        planar: whether only pictures have it.
    """

    about: str
    write: Callable[[Label], object]
    planar: bool = False


def convert_folder(
    source: Path | str, target: Path | str, to: str, report: Report = silent
) -> DataFolder:
    """Write a data folder with the same images, and with their labels in another form.

    Every pixel keeps its class. Images are linked, or copied to another disk. What
    `dataset.json`, `cases.csv` and `splits.json` say is kept.

    Args:
        source: data folder.
        target: folder to write, which must be missing or empty. It is written completely or not at
            all.
        to: name of the form, one of `FORMS`.
        report: function that receives an event for each case.

    Returns:
        The new folder.

    Raises:
        UserError: the source cannot be read, the form cannot hold its labels, or the target is not
            empty or cannot be written.
    """
    source, target = Path(source), Path(target)
    if to not in FORMS:
        raise UserError(f"expected one of the forms {', '.join(FORMS)}; it is {to!r}.")
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{target} lies in {source}. Give a target beside it.")
    folder = open_folder(source)
    if not folder.cases:
        raise UserError(f"{source} holds no case.")
    with new_folder(target) as made:
        _write(folder, made, to, report)
    return open_folder(target)


def _write(folder: DataFolder, made: Path, to: str, report: Report) -> None:
    (made / "images").mkdir()
    (made / "labels").mkdir()
    _write_tables(folder, made, _values_of(folder, to))
    # One file for all pictures holds a single annotation of each.
    if to == "coco" and all(len(case.labels) == len(case.images) == 1 for case in folder.cases):
        from cdal.imaging.annotations import coco

        labels = (
            label for case in _reported(folder, report) for label in _labels(case, folder, made, to)
        )
        pictures = ((label.image_name, label.array) for label in labels)
        coco.write(made / "labels" / "annotations.json", pictures, folder.classes)
        return
    for case in _reported(folder, report):
        for label in _labels(case, folder, made, to):
            FORMS[to].write(label)


def _reported(folder: DataFolder, report: Report) -> Iterator[CaseFiles]:
    """Yield the cases, and report each when the next one is asked for."""
    for number, case in enumerate(folder.cases, start=1):
        yield case
        report(Event("converting", case.name, number, len(folder.cases)))


def _labels(case: CaseFiles, folder: DataFolder, made: Path, to: str) -> list[Label]:
    """Put the image of a case in its place, and return the label of each annotator."""
    image, labels = read_case(case, folder)
    if FORMS[to].planar and len(image.shape) != 2:
        raise UserError(
            f"{case.image} is a volume, and {to} is for pictures. Choose one of "
            f"{', '.join(name for name, form in FORMS.items() if not form.planar)}."
        )
    _link_image(case, made / "images")
    name, values = _image_names(case)[0], _values_of(folder, to)
    return [
        Label(made / "labels" / stem, label.array[0], image, name, folder.classes, values)
        for stem, label in zip(_stems(case), labels, strict=True)
    ]


def _stems(case: CaseFiles) -> list[str]:
    """Return the names of a case's new label files without suffix, one for each annotator.

    Annotators keep the numbers in their file names.
    """
    if len(case.labels) == 1 and not _rater_of(case.labels[0]):
        return [case.name]
    raters = [_rater_of(annotation) for annotation in case.labels]
    if None in raters or len(set(raters)) < len(raters):
        raters = [f"rater{i}" for i in range(len(raters))]
    return [f"{case.name}_{rater}" for rater in raters]


def _rater_of(annotation: Annotation) -> str | None:
    found = _RATER.search(annotation.paths[0].name)
    return found[1] if found else None


def _image_names(case: CaseFiles) -> list[str]:
    """Return the new names of a case's image files, or of the folder of its DICOM series."""
    suffixes = [suffix_of(path) or ".dcm" for path in case.images]
    if case.image.is_dir():
        return [case.name]
    if len(case.images) == 1:
        return [case.name + suffixes[0]]
    return [f"{case.name}_{i:04d}{suffix}" for i, suffix in enumerate(suffixes)]


def _link_image(case: CaseFiles, folder: Path) -> None:
    """Link the files of an image, or copy them if they are on another disk."""
    names = _image_names(case)
    if case.image.is_dir():
        inner = folder / names[0]
        inner.mkdir()
        files = case.slices or [p for p in sorted(case.image.rglob("*")) if p.is_file()]
        for number, path in enumerate(files):
            # Files of several folders may have the same name.
            name = path.name if not (inner / path.name).exists() else f"{number}-{path.name}"
            _link(path, inner / name)
        return
    for path, name in zip(case.images, names, strict=True):
        _link(path, folder / name)
        for side in _side_files(path):
            _link(side, folder / side.name)
        if path.suffix.lower() == ".mrxs" and (data := path.with_suffix("")).is_dir():
            shutil.copytree(data, folder / case.name, copy_function=_link)


def _side_files(path: Path) -> list[Path]:
    """Return the files that hold the voxels of a header, `.mhd` or `.nhdr`."""
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return []
    with path.open("rb") as file:
        found = _SIDE_FILE.search(file.read(2**16))
    side = path.parent / os.fsdecode(found[1]) if found else path
    if side.parent != path.parent or not side.is_file() or side == path:
        raise UserError(
            f"{path}: expected its voxels in a file beside it. Convert it to .mha or .nrrd."
        )
    return [side]


def _link(source: Path | str, target: Path | str) -> None:
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _values_of(folder: DataFolder, to: str) -> tuple[int, ...]:
    """Return the values of the classes in the new labels: their own, if the form can hold them."""
    most = 2**8 if any(case.image.suffix.lower() == ".bmp" for case in folder.cases) else 2**16
    fits = to == "masks" and max(folder.values) < most
    return folder.values if fits else tuple(range(len(folder.classes)))


def _write_tables(folder: DataFolder, made: Path, values: tuple[int, ...]) -> None:
    """Write dataset.json with the classes, and what is known of the cases; copy the partitions."""
    described = read_json(folder.place / "dataset.json")
    kept = {key: value for key, value in described.items() if key not in _OF_FILES}
    kept["labels"] = dict(zip(folder.classes, values, strict=True))
    text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    (made / "dataset.json").write_text(text, encoding="utf-8")
    if (folder.place / "splits.json").is_file():
        shutil.copyfile(folder.place / "splits.json", made / "splits.json")
    rows = [{**row, "case": name} for name, row in folder.about.items()]
    columns = dict.fromkeys(["case", *(key for row in rows for key in row)])
    columns = {name: None for name in columns if name not in ("image", "label")}
    if rows:
        with (made / CASES).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(columns), extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: text_cell(cell) for key, cell in row.items()} for row in rows)


def _write_mask(label: Label) -> None:
    """Write values in the image's own format; a DICOM series gets NIfTI, a radiograph PNG."""
    image = label.image
    if image.suffix == ".dcm":
        suffix = ".png" if image.affine is None else ".nii.gz"
        image = Image(image.array, image.affine, suffix)
    write_label(label.stem, np.array(label.values)[label.array], image)


def _write_geojson(label: Label) -> None:
    from cdal.imaging.annotations.geojson import write_geojson

    array = label.array
    shape = (array.shape[0], array.shape[1])
    write_geojson(label.path(".geojson"), lambda a, b: array[a:b], shape, label.classes)


def _write_coco(label: Label) -> None:
    from cdal.imaging.annotations import coco

    picture = (label.image_name, label.array)
    coco.write(label.path(".json"), [picture], label.classes)


def _write_seg_nrrd(label: Label) -> None:
    from cdal.imaging.annotations import seg_nrrd

    seg_nrrd.write(label.path(".seg.nrrd"), label.array, label.image, label.classes)


def _write_dicom_seg(label: Label) -> None:
    from cdal.imaging.annotations.dicom_seg import write_segmentation

    if label.image.suffix != ".dcm":
        raise UserError(
            f"{label.image_name}: a DICOM segmentation refers to DICOM images; this image is not "
            "DICOM. Choose another form."
        )
    for name in label.classes[1:]:
        if len(name) > _LONGEST_IN_DICOM or "\\" in name:
            raise UserError(
                f"expected names of classes that DICOM can hold, of up to {_LONGEST_IN_DICOM} "
                f"characters and without a backslash; one is {name!r}. Rename it in dataset.json."
            )
    write_segmentation(label.path(".dcm"), label.array, label.image, label.classes, "annotation")


FORMS = {
    "masks": Form("label images, in the format of the image", _write_mask),
    "geojson": Form("polygons with holes, for QuPath", _write_geojson, planar=True),
    "coco": Form("run-length encoded objects, one file for all pictures", _write_coco, planar=True),
    "seg.nrrd": Form("segmentations of 3D Slicer", _write_seg_nrrd),
    "dicom-seg": Form("DICOM segmentations that refer to the images", _write_dicom_seg),
}
"""Every form that labels can be turned into."""
