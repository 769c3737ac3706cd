"""Finding labels whose numbers are not classes: shades, numbered objects, undeclared values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from cdal.datasets.findings import CaseFacts, Finding
from cdal.datasets.labels import MOST_CLASSES, propose, too_many
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.values import shown
from cdal.runtime.errors import first_few

_MANY = 8
"""If labels have more values than this, they may be object numbers instead of classes."""

_SATURATED = 128
"""If the only value of a mask is at least this, it means white, not a class."""

_GRAY = 64
"""Masks whose largest value is smaller have no shades of gray."""

_AT_BORDERS = 0.3
"""Share of the shades' voxels that lie between two other values, within two voxels of both.

Of classes so thin that they have no inside, such as vessels, few voxels do.
"""

_HARDLY = 5
"""Difference of gray levels that nobody sees."""

_FEW = 4
"""Classes without an inside, such as vessels, are fewer than this."""

_COLOURS = ("red", "green", "blue")
"""Names of the channels of a picture in colours."""

_NOT_ANNOTATED = 255
"""Value of voxels that nobody annotated, in masks such as Pascal VOC's."""

_ONE_CLASS = (
    'If they are, write dataset.json: {"labels": {"background": 0, "NAME": "foreground"}}, which '
    "takes whatever is not 0 as one class; otherwise declare the classes there"
)


def shade_fault(path: Path, label: np.ndarray, declared: Collection[int]) -> str | None:
    """Return why the values of a mask are shades of gray rather than classes, if they are.

    Args:
        path: path of the mask.
        label: numbers of the mask, `[*S]`.
        declared: values that are declared as classes.
    """
    jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    if jpeg and (count := len(np.unique(label))) > 2:
        return (
            f"{path}: JPEG changed the mask's values; it holds {count}. Threshold it at one half "
            "and save it as PNG."
        )
    shades = shades_of(label, declared)
    if not shades:
        return None
    listed = ", ".join(map(str, shades[:5])) + (", ..." if len(shades) > 5 else "")
    return (
        f"{path}: {len(shades)} of its values ({listed}) lie only along the borders of others: "
        "JPEG or a change of size made them before the mask was saved. Threshold it at one half "
        "and save it as PNG; or, if these are classes, declare them in dataset.json."
    )


def shades_of(label: np.ndarray, declared: Collection[int] = ()) -> list[int]:
    """Return the values that compression or resampling made of a mask, `[*S]`.

    These have no inside (no voxel whose neighbours all have its value), and lie between regions of
    two other values, or are hardly different from black or white. The list is empty for masks of
    classes.
    """
    if label.max(initial=0) < _GRAY:
        return []
    values, counts = np.unique(label, return_counts=True)
    if len(values) <= 2:
        return []
    inside = ndimage.maximum_filter(label, 3) == ndimage.minimum_filter(label, 3)
    regions = {*label[inside].tolist(), *values[np.argsort(counts)[-2:]].tolist(), *declared}
    shades = [int(value) for value in values if value not in regions]
    if not shades:
        return []
    if len(regions) == 2 and all(
        min(abs(shade - region) for region in regions) <= _HARDLY for shade in shades
    ):
        return shades
    thin = np.isin(label, shades)
    reach = 5 if len(shades) < _FEW else 3
    highest = ndimage.maximum_filter(np.where(thin, -1, label), reach)
    lowest = ndimage.minimum_filter(np.where(thin, values[-1] + 1, label), reach)
    if len(shades) >= _FEW:  # a blurred border may be wide; what counts is what it connects
        parts, count = ndimage.label(thin, np.ones((3,) * label.ndim))
        numbers = np.arange(count + 1)
        highest = ndimage.maximum(highest, parts, numbers)[parts]
        lowest = ndimage.minimum(lowest, parts, numbers)[parts]
    return shades if (highest > lowest)[thin].mean() >= _AT_BORDERS else []


def constant_findings(case: CaseFiles, low: np.ndarray, high: np.ndarray) -> Iterator[Finding]:
    """Find images without contrast, and channels without contrast.

    Args:
        case: files of the case.
        low: smallest intensity of each channel, `[C]`.
        high: largest intensity of each channel, `[C]`.
    """
    constant = np.flatnonzero(low == high)
    if len(constant) == len(low):
        message = (
            f"{case.image}: expected an image with some contrast; every voxel is {low[0]:g}. Is it "
            "the right file?"
        )
        yield Finding("error", "constant", case.name, message)
    elif len(constant):
        several = len(case.images) == len(low) > 1
        names = [
            case.images[channel].name
            if several
            else f"{channel + 1} ({_COLOURS[channel]})"
            if len(low) == len(_COLOURS)
            else f"{channel + 1}"
            for channel in constant.tolist()
        ]
        message = (
            f"{case.image}: the channel {first_few(names)} has no contrast; every voxel is "
            f"{low[constant[0]]:g}. Is that meant?"
        )
        yield Finding("warning", "constant", case.name, message)


def looks_numbered(label: np.ndarray) -> bool:
    """Whether the values of a label `[*S]` are 1 to N and each is one connected object."""
    count = int(label.max(initial=0))
    if not 2 <= count <= MOST_CLASSES or not np.bincount(label.ravel())[1:].all():
        return False
    everywhere = np.ones((3,) * label.ndim)
    boxes = ndimage.find_objects(label)
    objects = [
        ndimage.label(label[box] == value, everywhere)[1]
        for value, box in enumerate(boxes, start=1)
    ]
    return sum(number == 1 for number in objects) >= 0.8 * count


def undeclared(
    folder: DataFolder, facts: Sequence[CaseFacts], faulty: Collection[str]
) -> Iterator[Finding]:
    """Find values that are not declared, and declared classes that no label contains.

    Args:
        folder: data folder with its classes.
        facts: facts about its cases.
        faulty: cases for whose values there is a finding already.
    """
    place = folder.place / "dataset.json"
    for fact in facts:
        unknown = sorted(set(fact.voxels) - set(folder.values))
        if unknown and len(unknown) <= MOST_CLASSES and fact.name not in faulty:
            expected, found = (
                ", ".join(shown(value, folder.coding) for value in values)
                for values in (folder.values, unknown[:5])
            )
            remedy = (
                f"Declare {propose(folder.values, unknown)}, or renumber the label."
                if folder.coding == "values"
                else "Declare them, or correct the label."
            )
            hint = (
                " 255 often marks what nobody annotated, which is no class."
                if _NOT_ANNOTATED in unknown and folder.coding == "values"
                else ""
            )
            message = (
                f"{fact.name}: expected the values {expected}, as {place.name} declares; its label "
                f"holds {found}. {remedy}{hint}"
            )
            yield Finding("error", "values", fact.name, message)
    for name, value in zip(folder.classes, folder.values, strict=True):
        if value and not any(value in fact.voxels for fact in facts):
            message = (
                f"no label holds {shown(value, folder.coding)} ({name}), which {place.name} "
                "declares. Nothing can be learned about it."
            )
            yield Finding("warning", "values", "", message)


def no_classes(
    folder: DataFolder, facts: Sequence[CaseFacts], values: set[int]
) -> Iterator[Finding]:
    """Find signs that the values of undeclared labels are not classes."""
    declaration = f"{{{propose(values, ())}}}"
    if len(values) > MOST_CLASSES:
        # Labels with too many values already have their own finding.
        if not any(len(fact.voxels) > MOST_CLASSES for fact in facts):
            yield Finding("error", "values", "", too_many(folder.cases[0].labels[0], values))
    elif (
        len(values) > 2
        and max(values) >= _SATURATED
        and all(len(drawn) <= 1 for fact in facts for drawn in fact.drawn)
    ):
        # Every mask is black and white, but white has different values.
        whites = Counter(drawn[0] for fact in facts for drawn in fact.drawn if drawn)
        odd, count = whites.most_common()[-1]
        cases = ", ".join([fact.name for fact in facts if (odd,) in fact.drawn][:5])
        usual = " or ".join(str(value) for value in sorted(whites) if value != odd)
        message = (
            f"{count} masks hold 0 and {odd} ({cases}), others 0 and {usual}. Write all masks with "
            "the same values; or, if these are classes, declare them in dataset.json: "
            f"{declaration}."
        )
        yield Finding("error", "values", "", message)
    elif _NOT_ANNOTATED in values and len(values) > 2 and max(values - {255}) < MOST_CLASSES:
        message = (
            "the labels hold 255 beside small numbers. In masks such as Pascal VOC's it marks what "
            "nobody annotated, which cannot be left out of the loss. Give these voxels the value "
            f"of a class; or, if 255 is a class, declare it in dataset.json: {declaration}."
        )
        yield Finding("error", "values", "", message)
    elif _numbers_differ(facts):
        message = (
            "the labels hold the values 1 to N without gaps, each of them one connected object, "
            "and N differs between the cases. Are they numbered objects rather than classes? "
            f"{_ONE_CLASS}: {declaration}."
        )
        yield Finding("warning", "values", "", message)
    elif (
        len(values) > _MANY
        and np.median([sum(value in fact.voxels for fact in facts) for value in values - {0}]) <= 1
    ):
        message = (
            f"the labels hold {len(values)} values, most of them in one case only. Are they "
            f"numbered objects rather than classes? {_ONE_CLASS}: {declaration}."
        )
        yield Finding("warning", "values", "", message)


def _numbers_differ(facts: Sequence[CaseFacts]) -> bool:
    """Whether the labels look like numbered objects, as many as there happen to be in a case."""
    drawn = [fact for fact in facts if any(fact.drawn)]
    most = [max(max(values) for values in fact.drawn if values) for fact in drawn]
    several = [fact.numbered for fact, count in zip(drawn, most, strict=True) if count > 1]
    if not several or max(most) < 3 or sum(several) < 0.9 * len(several):
        return False
    return Counter(most).most_common(1)[0][1] <= 0.8 * len(most)


def masks_by_class(folder: DataFolder) -> Iterator[Finding]:
    """Find masks whose name is not a class, and cases that lack the mask of a class."""
    for case in folder.cases:
        for annotation in case.labels:
            names = {name for name, _ in annotation.files}
            if unknown := sorted(names - set(folder.classes)):
                parent = annotation.paths[0].parent
                present = "a label image" if unknown == [""] else ", ".join(unknown)
                message = (
                    f"{parent}: {case.name} has {present}; expected a mask for each of "
                    f"{', '.join(folder.classes[1:])}. Rename it."
                )
                yield Finding("error", "values", case.name, message)
            elif missing := sorted(set(folder.classes[1:]) - names):
                message = f"{case.name} has no mask of {', '.join(missing)}: taken as empty."
                yield Finding("note", "empty", case.name, message)
