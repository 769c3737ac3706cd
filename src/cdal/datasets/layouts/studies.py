"""A folder of DICOM studies, as a scanner or an archive gives them out.

    any/folders/IM0001        slices of series, in files of any name
    any/folders/seg.dcm       annotations that refer to a series: DICOM-SEG or RTSTRUCT

Files are paired by the references in them, not by their names. A case is a series with an
annotation. Nothing here tells the name, number or birth date of a patient.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdal.datasets.layout import Annotation, CaseFiles, Listing
from cdal.imaging.annotations import AnnotationFormat, annotation_format
from cdal.imaging.annotations.dicom_references import references_of
from cdal.imaging.formats import DICOM, suffix_of
from cdal.imaging.formats.dicom_files import read_file, sop_class_of, text_of
from cdal.imaging.formats.dicom_series import Series, dicom_files, is_image, series_of
from cdal.runtime.errors import UserError, first_few

_IDENTIFYING = ("PatientName", "PatientID", "PatientBirthDate")
_SHORTEST_IDENTITY = 3
_LONGEST_NAME = 80


@dataclass
class _Studies:
    """What a folder holds.

    Attributes:
        root: path of the folder.
        images: header of each image file.
        annotations: header of each annotation file.
        others: number of other DICOM objects by modality.
        problems: see `Listing`.
    """

    root: Path
    images: dict[Path, Any] = field(default_factory=dict)
    annotations: dict[Path, Any] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def readings(root: Path) -> list[str]:
    """Return the reading as studies, in words, if the folder holds a DICOM annotation."""
    found = any(_annotation_format(path) for path in dicom_files(root))
    return ["series and the annotations that refer to them"] if found else []


def list_cases(root: Path) -> Listing:
    """List the series of a folder of studies that have annotations.

    Cases are called after their folder; after their series where that is not unique, or holds what
    identifies the patient. `about` of a case has a checksum of the patient's number, so that cases
    of one patient stay in one part.
    """
    studies = _read_headers(root)
    series = series_of(iter(studies.images.items()))
    drawn: dict[tuple[Path, ...], list[Path]] = defaultdict(list)
    for path, header in studies.annotations.items():
        try:
            drawn[_annotated(path, header, series, studies)].append(path)
        except UserError as error:  # noqa: PERF203 (each annotation has its own problem)
            studies.problems.append(str(error))
    names = _names(root, list(drawn), studies.images)
    cases, about = [], {}
    for files, paths in drawn.items():
        try:
            labels = _labels(paths)
        except UserError as error:
            studies.problems.append(str(error))
            continue
        first = studies.images[files[0]]
        whole = text_of(first, "ImagePositionPatient") or len(files) > 1
        image = Path(os.path.commonpath([path.parent for path in files])) if whole else files[0]
        cases.append(CaseFiles(names[files], (image,), labels, files))
        about[names[files]] = {"patient": _patient(first)}
    return Listing(
        tuple(sorted(cases, key=lambda case: case.name)),
        about,
        problems=tuple(studies.problems),
        passed_over=tuple(_passed_over(studies, series, drawn)),
    )


def _annotation_format(path: Path) -> AnnotationFormat | None:
    """The format of a DICOM annotation; `None` for images and other objects."""
    return annotation_format(path) if sop_class_of(path) else None


def _read_headers(root: Path) -> _Studies:
    """Read the headers of all DICOM files of a folder; what cannot be read is a problem."""
    studies = _Studies(root)
    for path in dicom_files(root):
        try:
            header = read_file(path, pixels=False)
        except UserError as error:
            studies.problems.append(str(error))
            continue
        if _annotation_format(path):
            studies.annotations[path] = header
        elif not is_image(header):
            studies.others[text_of(header, "Modality")] += 1
        elif all(text_of(header, keyword) for keyword in ("SeriesInstanceUID", "Rows", "Columns")):
            studies.images[path] = header
        else:
            studies.problems.append(
                f"{path}: expected a DICOM image; it lacks its series or its size. Is it complete? "
                "Otherwise remove it."
            )
    return studies


def _annotated(
    path: Path, header: Any, series: Sequence[Series], studies: _Studies
) -> tuple[Path, ...]:
    """The image files that an annotation belongs to: those of a series, or a radiograph.

    Raises:
        UserError: it refers to no series of the folder, or to several.
    """
    refers = references_of(header)
    instances = {file: text_of(image, "SOPInstanceUID") for file, image in studies.images.items()}
    found = [scan for scan in series if scan.uid in refers.series] or [
        scan for scan in series if refers.instances & {instances[file] for file in scan.files}
    ]
    if not found and not refers.series and not refers.instances:
        found = [
            scan
            for scan in series
            if not scan.localizer
            and text_of(studies.images[scan.files[0]], "FrameOfReferenceUID")
            in refers.frames - {""}
        ]
    if not found:
        which = first_few(sorted(refers.series)) or "none that it names"
        raise UserError(
            f"{path}: the series that it refers to ({which}) is not in {studies.root}. Add the "
            "series, or remove the annotation."
        )
    if len(found) > 1:
        listed = first_few([scan.uid for scan in found])
        raise UserError(
            f"{path}: expected an annotation of one series; it fits {len(found)} ({listed}). Keep "
            "the series that it was drawn on, or give images/ and labels/ of equal names."
        )
    (scan,) = found
    if not scan.planar:
        return tuple(sorted(scan.files))
    pictures = [file for file in scan.files if instances[file] in refers.instances] or scan.files
    if len(pictures) > 1:
        raise UserError(
            f"{path}: expected an annotation of one radiograph; it fits {len(pictures)} "
            f"({first_few([file.name for file in pictures])})."
        )
    return (pictures[0],)


def _labels(paths: Sequence[Path]) -> tuple[Annotation, ...]:
    """The annotation in one file, or in a file for each class.

    Raises:
        UserError: a file is damaged, or several files hold the same class.
    """
    if len(paths) == 1:
        return (Annotation((("", paths[0]),)),)
    first: dict[str, Path] = {}
    named = {path: _class_names(path) for path in paths}
    for path, names in named.items():
        for name in names:
            if first.setdefault(name, path) != path:
                raise UserError(
                    f"{first[name]} and {path} both hold {name!r} of one series. Are they two "
                    "annotators, or two versions? Keep one; or give images/ and "
                    "labels/NAME_rater0.dcm, labels/NAME_rater1.dcm for annotators."
                )
    for path, names in named.items():
        if len(names) > 1:
            raise UserError(
                f"{path} holds several classes ({first_few(list(names))}), and the series has "
                f"other annotations, such as {next(p for p in paths if p != path)}. Join them in "
                "one file, or split them into a file for each class."
            )
    return (Annotation(tuple(sorted(first.items()))),)


def _class_names(path: Path) -> tuple[str, ...]:
    known = annotation_format(path)
    assert known is not None  # only such files are listed
    return known.class_names(path)


def _names(
    root: Path, cases: Sequence[tuple[Path, ...]], images: Mapping[Path, Any]
) -> dict[tuple[Path, ...], str]:
    """A name for each case, which does not depend on the other studies if folders are unique."""
    folders = {
        files: Path(os.path.commonpath([path.parent for path in files])).relative_to(root)
        for files in cases
    }
    shared = Counter(folders.values())
    names = {}
    for files, folder in folders.items():
        header = images[files[0]]
        name = "_".join(folder.parts)
        if shared[folder] > 1 or not name:
            number = re.sub(r"\W", "", text_of(header, "SeriesNumber"))
            name = "_".join(filter(None, (name, f"series{number}", _digest(header, *files))))
        if len(name) > _LONGEST_NAME or _identifies(name, header):
            name = f"series_{_digest(header, *files)}"
        names[files] = name
    doubled = {name for name, count in Counter(names.values()).items() if count > 1}
    return {
        files: f"{name}_{_digest(images[files[0]], *files)}" if name in doubled else name
        for files, name in names.items()
    }


def _digest(header: Any, *files: Path) -> str:
    """A checksum of a series; of an image, if it is one by itself."""
    uid = text_of(header, "SeriesInstanceUID")
    own = text_of(header, "SOPInstanceUID") if len(files) == 1 else ""
    return hashlib.sha256(f"{uid} {own}".encode()).hexdigest()[:8]


def _identifies(name: str, header: Any) -> bool:
    """Whether a name holds a part of the patient's name, number or birth date."""
    plain = re.sub(r"[\W_]", "", name).casefold()
    parts = (
        re.sub(r"[\W_]", "", part).casefold()
        for keyword in _IDENTIFYING
        for part in re.split(r"[\s^=\\]", text_of(header, keyword))
    )
    return any(len(part) >= _SHORTEST_IDENTITY and part in plain for part in parts)


def _patient(header: Any) -> str:
    """A checksum of the patient's number; of the study if there is none."""
    number = text_of(header, "PatientID")
    issuer = text_of(header, "IssuerOfPatientID")
    who = f"patient {issuer} {number}" if number else text_of(header, "StudyInstanceUID")
    return hashlib.sha256(who.encode()).hexdigest()[:12]


def _passed_over(
    studies: _Studies, series: Sequence[Series], drawn: Mapping[tuple[Path, ...], object]
) -> list[str]:
    """What is no case, in words."""
    used = {file for files in drawn for file in files}
    without = [
        f"{scan.files[0].parent.relative_to(studies.root)}, {scan.number or '-'}: "
        f"{scan.description or 'no description'} ({len(scan.files)} files)"
        for scan in series
        if not scan.localizer and not used & set(scan.files)
    ]
    words = []
    if without:
        words.append(f"{studies.root}: series without an annotation: {first_few(without)}.")
    if local := sum(scan.localizer and not used & set(scan.files) for scan in series):
        words.append(f"{studies.root}: {local} series are localizers.")
    if studies.others:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(studies.others.items()))
        words.append(f"{studies.root}: other DICOM objects: {listed}.")
    empty = [
        str(path.relative_to(studies.root))
        for path in sorted(studies.root.rglob("*"))
        if suffix_of(path) in (None, *DICOM.suffixes)
        and not path.name.startswith(".")
        and path.is_file()
        and not path.stat().st_size
    ]
    if empty:
        words.append(f"{studies.root}: files that hold nothing: {first_few(empty)}. Replace them.")
    return words
