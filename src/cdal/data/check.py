"""One pass over a data folder: what is wrong with it, case by case, with the remedy; and what is known of its cases."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from scipy import ndimage

from cdal.data.cases import read_channels
from cdal.data.folder import Annotation, CaseFiles, DataFolder, list_folder
from cdal.data.formats import read_any, read_label, suffix_of
from cdal.data.image import Image
from cdal.data.intensities import is_gray
from cdal.data.labels import MOST_CLASSES, name_classes, need_on_grid, propose, too_many
from cdal.errors import UserError

Level = Literal["error", "warning", "note"]

_NEARLY_ALL = 0.95
_ODD_SPACING = 3.0

_MANY = 8
"""With more values than these, classes are looked at twice."""

_SATURATED = 128
"""From this value on, a lone value of a mask means white rather than a class."""


@dataclass(frozen=True)
class Finding:
    """Something worth knowing.

    Attributes:
        level: `error` stops a training; `warning` may spoil it; `note` is for information.
        kind: a word to sort by: unreadable, missing, shape, affine, values, empty, constant, not-finite, duplicate, type, channels,
            spacing, table, ignored.
        case: its name, or nothing where the whole folder is meant.
        message: what was expected, what came and what to do.
    """

    level: Level
    kind: str
    case: str
    message: str


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a readable case.

    Attributes:
        name: of the case.
        shape: `*S`, of a volume with a place in space in the order right, anterior, superior.
        channels: of the image.
        gray: whether it has three channels that are alike.
        stored: the type of its numbers on disk.
        spacing: millimetres, in the same order; none for images without a place in space.
        low: the smallest number.
        high: the largest number.
        voxels: of each value, in the labels of all annotators; a class's mask stands for the class's place in the names.
        drawn: the values but 0 that each annotator used.
        object_size: extent of a typical object (weighted by area) as a share of the image's longer side; 0 for empty masks.
        digest: of the image.
    """

    name: str
    shape: tuple[int, ...]
    channels: int
    gray: bool
    stored: str
    spacing: tuple[float, ...] | None
    low: float
    high: float
    voxels: dict[int, int]
    drawn: tuple[tuple[int, ...], ...]
    object_size: float
    digest: str


@dataclass(frozen=True)
class Check:
    """The outcome.

    Attributes:
        folder: with its classes, those found where none are declared, and what was seen of its cases, see `_known`.
        findings: errors first.
        facts: of the cases that could be read.
    """

    folder: DataFolder
    findings: tuple[Finding, ...]
    facts: tuple[CaseFacts, ...]

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop a training."""
        return [finding for finding in self.findings if finding.level == "error"]

    def need_no_errors(self) -> None:
        """Refuse the folder if there are errors.

        Raises:
            UserError: lists the first of them.
        """
        if errors := self.errors:
            listed = "\n".join(f"  {finding.message}" for finding in errors[:5])
            more = f"\n  and {len(errors) - 5} more" if len(errors) > 5 else ""
            raise UserError(
                f"{self.folder.root} cannot be used as it is; `cdal check {self.folder.root}` shows all that was found:\n"
                f"{listed}{more}"
            )

    def to_dict(self) -> dict[str, Any]:
        """As `cdal check --json` prints it."""
        return {
            "data": str(self.folder.root),
            "cases": len(self.folder.cases),
            "classes": dict(zip(self.folder.classes, self.folder.values, strict=True)),
            "errors": len(self.errors),
            "findings": [asdict(finding) for finding in self.findings],
            "facts": [asdict(fact) for fact in self.facts],
        }


def check_folder(root: Path | str, on_progress: Callable[[str, int], object] = lambda _name, _count: None) -> Check:
    """Read every file of a data folder and tell what is wrong.

    Args:
        root: the data folder.
        on_progress: called after each case with its name and the number of all cases.

    Raises:
        UserError: there is no such folder, or it is of another form.
    """
    folder = list_folder(Path(root))
    findings = [Finding("error", "missing", "", problem) for problem in folder.problems]
    findings += _ignored(folder)
    facts: list[CaseFacts] = []
    names = (
        "background",
        *sorted({name for case in folder.cases for a in case.labels for name, _ in a.files} - {"", "background"}),
    )
    by_mask = len(names) > 1
    if by_mask and not folder.classes:
        folder = replace(folder, classes=names, values=tuple(range(len(names))))
    for case in folder.cases:
        fact, found = _look(case, folder)
        findings += found
        facts += [fact] if fact else []
        on_progress(case.name, len(folder.cases))
    if by_mask:
        findings += _masks_by_class(folder)
    else:
        folder, found = _classes(folder, facts)
        findings += found
    findings += _table(folder)
    findings += [*_alike(facts), *_duplicates(folder, facts)]
    order = {"error": 0, "warning": 1, "note": 2}
    folder = replace(folder, about=_known(folder, facts))
    return Check(folder, tuple(sorted(findings, key=lambda finding: order[finding.level])), tuple(facts))


def _look(case: CaseFiles, folder: DataFolder) -> tuple[CaseFacts | None, list[Finding]]:
    """One case by itself."""
    try:
        image = read_channels(case, read_any)
        labels = [[read_label(path) for path in annotation.paths] for annotation in case.labels]
    except UserError as error:
        return None, [Finding("error", "unreadable", case.name, str(error))]
    findings = []
    if bad := image.array.size - int(np.isfinite(image.array).sum()):
        message = f"{case.image}: expected finite intensities; {bad} voxels are NaN or infinite. Replace them (with 0, say)."
        return None, [Finding("error", "not-finite", case.name, message)]
    try:
        for annotation, read in zip(case.labels, labels, strict=True):
            for path, label in zip(annotation.paths, read, strict=True):
                need_on_grid(path, label, image)
    except UserError as error:
        return None, [Finding("error", "shape" if "shape" in str(error) else "affine", case.name, str(error))]
    flat = image.array.reshape(len(image.array), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    if (low == high).any():
        message = (
            f"{case.image}: expected an image with some contrast; every voxel is {low[low == high][0]:g}. Is it the right file?"
        )
        findings.append(Finding("error", "constant", case.name, message))
    if image.stored.itemsize > 1 and image.stored.kind == "u" and high.max() < 256:
        bits = 8 * image.stored.itemsize
        message = f"{case.image}: {bits} bits a number hold values to {high.max():g} only. Other programs show it black."
        findings.append(Finding("note", "type", case.name, message))
    counts = [_count(annotation, read, folder) for annotation, read in zip(case.labels, labels, strict=True)]
    findings += _mask_findings(case, counts)
    inside = np.zeros(image.shape, bool)
    for label in labels[0]:
        inside |= label.array[0] > 0
    axes = _axes(image)
    fact = CaseFacts(
        case.name,
        tuple(image.shape[axis] for axis in axes),
        len(image.array),
        is_gray(image),
        str(image.stored),
        None if image.affine is None else tuple(image.spacing[axis] for axis in axes),
        float(low.min()),
        float(high.max()),
        dict(sum(map(Counter, counts), Counter())),
        tuple(tuple(sorted(value for value in count if value)) for count in counts),
        _object_size(inside),
        hashlib.sha256(repr(image.shape).encode() + image.array.tobytes()).hexdigest()[:16],
    )
    return fact, findings


def _axes(image: Image) -> list[int]:
    """The stored axes in the order right, anterior, superior."""
    if image.affine is None:
        return list(range(len(image.shape)))
    return [int(axis) for axis in np.argsort(nib.io_orientation(image.affine)[:, 0])]


def _count(annotation: Annotation, labels: Sequence[Image], folder: DataFolder) -> dict[int, int]:
    """Voxels of each value; of masks by class, of each class's place in the names."""
    if not annotation.files[0][0]:
        values, counts = np.unique(labels[0].array, return_counts=True)
        return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    sizes = {
        folder.classes.index(name): int((label.array > 0).sum())
        for (name, _), label in zip(annotation.files, labels, strict=True)
        if name in folder.classes
    }
    return {0: max(0, labels[0].array.size - sum(sizes.values())), **sizes}


def _mask_findings(case: CaseFiles, counts: Sequence[dict[int, int]]) -> Iterator[Finding]:
    for annotation, count in zip(case.labels, counts, strict=True):
        path, background, everything = annotation.paths[0], count.get(0, 0), sum(count.values())
        if path.suffix.lower() in (".jpg", ".jpeg") and len(count) > 2:
            message = f"{path}: JPEG changed the mask's values; it holds {len(count)}. Cut it at one half and save it as PNG."
            yield Finding("error", "values", case.name, message)
        elif len(count) > MOST_CLASSES:
            yield Finding("error", "values", case.name, too_many(annotation, count))
        elif background == everything:
            level: Level = "warning" if len(case.labels) == 1 else "note"  # an annotator may well have seen nothing
            yield Finding(level, "empty", case.name, f"{path}: the mask is empty. If something is to be seen, draw it.")
        elif background < (1 - _NEARLY_ALL) * everything:
            share = 1 - background / everything
            yield Finding("warning", "values", case.name, f"{path}: the mask covers {share:.0%} of the image. Is it inverted?")


def _classes(folder: DataFolder, facts: Sequence[CaseFacts]) -> tuple[DataFolder, list[Finding]]:
    """The classes of label images, and values that stand for none."""
    values = {0} | {value for fact in facts for value in fact.voxels}
    findings: list[Finding] = []
    if folder.classes:
        for fact in facts:
            strange = sorted(set(fact.voxels) - set(folder.values))
            if strange and len(strange) <= MOST_CLASSES:
                message = (
                    f"{fact.name}: expected the values {', '.join(map(str, folder.values))}, as dataset.json declares; its label "
                    f"holds {', '.join(map(str, strange[:5]))}. Declare {propose(folder.values, strange)}, or renumber the label."
                )
                findings.append(Finding("error", "values", fact.name, message))
        for name, value in zip(folder.classes, folder.values, strict=True):
            if value not in values:
                message = f"no label holds {value} ({name}), which dataset.json declares. Nothing can be learned of it."
                findings.append(Finding("warning", "values", "", message))
        return folder, findings
    if len(values) > MOST_CLASSES:
        case = next((case for case in folder.cases if len(facts) and case.name == facts[0].name), None)
        if case is not None and not any(len(fact.voxels) > MOST_CLASSES for fact in facts):  # else that label has a finding
            findings.append(Finding("error", "values", "", too_many(case.labels[0], values)))
        return folder, findings
    if len(values) > 2 and max(values) >= _SATURATED and all(len(drawn) <= 1 for fact in facts for drawn in fact.drawn):
        # Each mask by itself is black and white, but not the same white.
        whites = Counter(drawn[0] for fact in facts for drawn in fact.drawn if drawn)
        odd, count = whites.most_common()[-1]
        where = ", ".join([fact.name for fact in facts if (odd,) in fact.drawn][:5])
        others = " or ".join(str(value) for value in sorted(whites) if value != odd)
        message = (
            f"{count} masks hold 0 and {odd} ({where}), others 0 and {others}. Write all masks with the same values; or, if these "
            f"are classes, declare them in dataset.json: {{{propose(values, ())}}}."
        )
        findings.append(Finding("error", "values", "", message))
    if len(values) > _MANY and np.median([sum(value in fact.voxels for fact in facts) for value in values - {0}]) <= 1:
        message = (
            f"the labels hold {len(values)} values, most of them in one case only. Are they numbered objects rather than classes?"
        )
        findings.append(Finding("warning", "values", "", message))
    names = name_classes(values)
    folder = replace(folder, classes=names, values=tuple(sorted(values)) if len(values) > 1 else (0, 1))
    said = ", ".join(f"{value} = {name}" for value, name in zip(folder.values, names, strict=True))
    hint = propose(values, ())
    findings.append(Finding("note", "values", "", f"the labels are taken as {said}. To name them, write dataset.json: {{{hint}}}."))
    return folder, findings


def _alike(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Cases that differ in kind from the others."""
    types = Counter(fact.stored for fact in facts)
    if len(types) > 1:
        said = ", ".join(f"{count} {kind}" for kind, count in types.most_common())
        message = (
            f"images of several types: {said}. Each is brought to mean 0 and standard deviation 1, unless the recipe says `range`."
        )
        yield Finding("warning" if any(kind.startswith("uint16") for kind in types) else "note", "type", "", message)
    channels = Counter(1 if fact.gray else fact.channels for fact in facts)
    if len(channels) > 1:
        said = ", ".join(f"{count} of {number} channel(s)" for number, count in channels.most_common())
        level: Level = "warning" if set(channels) == {1, 3} else "error"
        remedy = "Gray ones can be repeated to 3 channels (--data.channels 3)" if level == "warning" else "Bring all to one kind"
        yield Finding(level, "channels", "", f"expected images of one kind; there are {said}. {remedy}.")
    dims = Counter(len(fact.shape) for fact in facts)
    if len(dims) > 1:
        yield Finding(
            "error", "shape", "", f"expected pictures or volumes; there are {dims[2]} pictures and {dims[3]} volumes. Part them."
        )
    placed = [fact for fact in facts if fact.spacing is not None]
    if placed:
        middle = np.median([fact.spacing for fact in placed], axis=0)
        for fact in placed:
            ratio = np.array(fact.spacing) / middle
            if ratio.max() > _ODD_SPACING or ratio.min() < 1 / _ODD_SPACING:
                said = " x ".join(f"{s:g}" for s in fact.spacing or ())
                usual = " x ".join(f"{s:g}" for s in middle)
                message = f"{fact.name}: its voxels are {said} mm, the others' {usual} mm. Is its header right?"
                yield Finding("warning", "spacing", fact.name, message)


def _duplicates(folder: DataFolder, facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Images that are there twice; a score is worth nothing where one is in training and the other in the test."""
    by_digest: dict[str, list[str]] = {}
    for fact in facts:
        by_digest.setdefault(fact.digest, []).append(fact.name)
    tests = [("the column `split`", {name for name, row in folder.about.items() if row.get("split") == "test"})]
    for partition, folds in folder.partitions.items():
        tests += [(f"fold {i} of {partition}", set(fold["test"])) for i, fold in enumerate(folds)]
    for names in (names for names in by_digest.values() if len(names) > 1):
        torn = next((where for where, test in tests if 0 < len(test & set(names)) < len(names)), None)
        said = f"{', '.join(names)}: the same image."
        if torn:
            yield Finding(
                "error", "duplicate", names[0], f"{said} By {torn} it is in the test and not only there. Keep one of them."
            )
        else:
            message = f"{said} Keep one of them; a partition that is `stratified` keeps them in one part."
            yield Finding("warning", "duplicate", names[0], message)


def _known(folder: DataFolder, facts: Sequence[CaseFacts]) -> dict[str, Mapping[str, str]]:
    """The rows of cases.csv, completed for a partition that is stratified.

    A stratum is the classes that occur and how much of the image they take (a third of the cases each: little, middling, much).
    Images that are the same carry one name in `same_image`.
    """
    shares = {fact.name: 1 - fact.voxels.get(0, 0) / max(1, sum(fact.voxels.values())) for fact in facts}
    low, high = np.quantile(list(shares.values()), [1 / 3, 2 / 3]) if facts else (0.0, 0.0)
    first: dict[str, str] = {}
    known: dict[str, Mapping[str, str]] = dict(folder.about)
    for fact in facts:
        present = "+".join(str(value) for value in sorted(fact.voxels) if value and fact.voxels[value])
        amount = ("little", "middling", "much")[int(shares[fact.name] > low) + int(shares[fact.name] > high)]
        twin = first.setdefault(fact.digest, fact.name)
        known[fact.name] = {"stratum": f"{present} {amount}", **folder.about.get(fact.name, {}), "same_image": twin}
    return known


def _masks_by_class(folder: DataFolder) -> Iterator[Finding]:
    """Files of one mask for each class that are of no class, or are missing."""
    for case in folder.cases:
        for annotation in case.labels:
            names = {name for name, _ in annotation.files}
            if strange := sorted(names - set(folder.classes)):
                there = annotation.paths[0].parent
                said = "a label image" if strange == [""] else ", ".join(strange)
                message = (
                    f"{there}: {case.name} has {said}; expected a mask for each of {', '.join(folder.classes[1:])}. Rename it."
                )
                yield Finding("error", "values", case.name, message)
            elif lacking := sorted(set(folder.classes[1:]) - names):
                message = f"{case.name} has no mask of {', '.join(lacking)}: taken as empty."
                yield Finding("note", "empty", case.name, message)


def _table(folder: DataFolder) -> Iterator[Finding]:
    """Names in cases.csv and splits.json that are no case's, and cases that cases.csv leaves out."""
    names = {case.name for case in folder.cases}
    tables = {"cases.csv": set(folder.about)} if folder.about else {}
    listed = {name for folds in folder.partitions.values() for fold in folds for part in fold.values() for name in part}
    tables |= {"splits.json": listed} if listed else {}
    for table, said in tables.items():
        if strange := sorted(said - names):
            some = ", ".join(strange[:5]) + (f" and {len(strange) - 5} more" if len(strange) > 5 else "")
            level: Level = "warning" if said & names else "error"
            message = f"{folder.root / table}: {some}: no case has this name. Names are those of the images, without suffix."
            yield Finding(level, "table", "", message)
    if folder.about and (forgotten := sorted(names - set(folder.about))) and names & set(folder.about):
        some = ", ".join(forgotten[:5]) + (f" and {len(forgotten) - 5} more" if len(forgotten) > 5 else "")
        yield Finding("warning", "table", "", f"{folder.root / 'cases.csv'} says nothing of {some}.")


def _ignored(folder: DataFolder) -> Iterator[Finding]:
    used = {path for case in folder.cases for path in (*case.images, *[p for a in case.labels for p in a.paths])}
    for parent in sorted({path.parent for case in folder.cases for path in case.images}):
        if inside := sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")):
            message = f"{parent}: the folders {', '.join(inside[:5])} are not looked into. Move their images up, if they matter."
            yield Finding("warning", "ignored", "", message)
    for parent in sorted({path.parent for path in used}):
        others = [p.name for p in sorted(parent.iterdir()) if p.is_file() and not p.name.startswith(".") and not suffix_of(p)]
        others = [name for name in others if not name.endswith((".raw", ".zraw", ".csv", ".json", ".txt", ".md"))]
        if others:
            listed = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
            yield Finding(
                "warning", "ignored", "", f"{parent}: files of no format that is known: {listed}. Convert them, if they matter."
            )


def _object_size(inside: np.ndarray) -> float:
    """Extent of an object as a share of the image's longer side: the mean over the connected objects, weighted by their area."""
    if inside.ndim != 2 or not inside.any():
        return 0.0
    numbered, count = ndimage.label(inside)
    areas = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    extents = [max(part.stop - part.start for part in box) for box in ndimage.find_objects(numbered)]
    return float(np.average(extents, weights=areas) / max(inside.shape))
