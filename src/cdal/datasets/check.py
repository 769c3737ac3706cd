"""One pass over a data folder: what is wrong with it, case by case, with the remedy; and what is known of its cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.datasets.check_case import look_at_case
from cdal.datasets.findings import CaseFacts, Check, Finding, Level
from cdal.datasets.folder import list_folder
from cdal.datasets.labels import MOST_CLASSES, propose, too_many, with_classes_of, with_masks_named
from cdal.datasets.layout import DataFolder
from cdal.datasets.partition import need_apart
from cdal.imaging.formats import suffix_of
from cdal.runtime.errors import UserError, some
from cdal.runtime.events import Event, Report, silent

__all__ = ["Check", "check_folder"]

_ODD_SPACING = 3.0
"""Times by which a volume's spacing may differ from the median's."""

_MANY = 8
"""With more values than these, classes are looked at twice."""

_SATURATED = 128
"""From this value on, a lone value of a mask means white rather than a class."""


def check_folder(root: Path | str, report: Report = silent) -> Check:
    """Read every file of a data folder and tell what is wrong.

    Args:
        root: the data folder.
        report: gets the progress, in cases.

    Raises:
        UserError: there is no such folder, or it is of another form.
    """
    folder = list_folder(Path(root))
    findings = [Finding("error", "missing", "", problem) for problem in folder.problems]
    findings += _ignored(folder)
    facts: list[CaseFacts] = []
    by_mask = any(name for case in folder.cases for annotation in case.labels for name, _ in annotation.files)
    if not folder.classes:
        folder = with_masks_named(folder)
    for number, case in enumerate(folder.cases, start=1):
        fact, found = look_at_case(case, folder)
        findings += found
        facts += [fact] if fact else []
        report(Event("checking", case.name, number, len(folder.cases)))
    values = {0} | {value for fact in facts for value in fact.voxels}
    if by_mask:
        findings += _masks_by_class(folder)
    elif folder.classes:
        findings += _undeclared(folder, facts)
    else:
        findings += _no_classes(folder, facts, values)
        if len(values) <= MOST_CLASSES:
            folder = with_classes_of(folder, values)
            said = ", ".join(f"{value} = {name}" for value, name in zip(folder.values, folder.classes, strict=True))
            message = f"the labels are taken as {said}. To name them, write dataset.json: {{{propose(folder.values, ())}}}."
            findings.append(Finding("note", "values", "", message))
    if facts and not any(any(fact.drawn) for fact in facts):
        findings.append(Finding("error", "empty", "", "every mask is empty: there is nothing to learn. Are these the right masks?"))
    findings += _table(folder)
    findings += [*_alike(facts), *_duplicates(facts)]
    order = {"error": 0, "warning": 1, "note": 2}
    folder = replace(folder, about=_known(folder, facts))
    findings += _torn(folder)
    return Check(folder, tuple(sorted(findings, key=lambda finding: order[finding.level])), tuple(facts))


def _undeclared(folder: DataFolder, facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Values that dataset.json does not declare, and classes that no label holds."""
    for fact in facts:
        strange = sorted(set(fact.voxels) - set(folder.values))
        if strange and len(strange) <= MOST_CLASSES:
            message = (
                f"{fact.name}: expected the values {', '.join(map(str, folder.values))}, as dataset.json declares; its label "
                f"holds {', '.join(map(str, strange[:5]))}. Declare {propose(folder.values, strange)}, or renumber the label."
            )
            yield Finding("error", "values", fact.name, message)
    for name, value in zip(folder.classes, folder.values, strict=True):
        if value and not any(value in fact.voxels for fact in facts):
            message = f"no label holds {value} ({name}), which dataset.json declares. Nothing can be learned of it."
            yield Finding("warning", "values", "", message)


def _no_classes(folder: DataFolder, facts: Sequence[CaseFacts], values: set[int]) -> Iterator[Finding]:
    """Signs that the values of undeclared labels are no classes."""
    if len(values) > MOST_CLASSES:
        if not any(len(fact.voxels) > MOST_CLASSES for fact in facts):  # else that label has a finding of its own
            yield Finding("error", "values", "", too_many(folder.cases[0].labels[0], values))
    elif len(values) > 2 and max(values) >= _SATURATED and all(len(drawn) <= 1 for fact in facts for drawn in fact.drawn):
        # Each mask by itself is black and white, but not the same white.
        whites = Counter(drawn[0] for fact in facts for drawn in fact.drawn if drawn)
        odd, count = whites.most_common()[-1]
        where = ", ".join([fact.name for fact in facts if (odd,) in fact.drawn][:5])
        others = " or ".join(str(value) for value in sorted(whites) if value != odd)
        message = (
            f"{count} masks hold 0 and {odd} ({where}), others 0 and {others}. Write all masks with the same values; or, if these "
            f"are classes, declare them in dataset.json: {{{propose(values, ())}}}."
        )
        yield Finding("error", "values", "", message)
    elif len(values) > _MANY and np.median([sum(value in fact.voxels for fact in facts) for value in values - {0}]) <= 1:
        message = (
            f"the labels hold {len(values)} values, most of them in one case only. Are they numbered objects rather than classes?"
        )
        yield Finding("warning", "values", "", message)


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


def _duplicates(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Images that are there twice."""
    by_digest: dict[str, list[str]] = {}
    for fact in facts:
        by_digest.setdefault(fact.digest, []).append(fact.name)
    for names in (names for names in by_digest.values() if len(names) > 1):
        message = f"{', '.join(names)}: the same image. Keep one of them; a partition that is `stratified` keeps them in one part."
        yield Finding("warning", "duplicate", names[0], message)


def _torn(folder: DataFolder) -> Iterator[Finding]:
    """Partitions given with the folder whose parts share a case, a patient or an image: scores would say too much."""
    names = [case.name for case in folder.cases]
    given = {part: [n for n in names if folder.about.get(n, {}).get("split") == part] for part in ("train", "validation", "test")}
    listed = [("the column `split` of cases.csv", given)]
    for partition, folds in folder.partitions.items():
        for i, fold in enumerate(folds):
            there = {part: [name for name in fold[part] if name in set(names)] for part in fold}
            others = {name for part in there.values() for name in part}
            listed.append((f"fold {i} of {partition} in splits.json", {"train": [n for n in names if n not in others], **there}))
    for where, parts in listed:
        try:
            need_apart(folder, parts)
        except UserError as error:  # noqa: PERF203 (each partition by itself)
            yield Finding("error", "partition", "", f"{where}: {error}")


def _known(folder: DataFolder, facts: Sequence[CaseFacts]) -> dict[str, Mapping[str, str]]:
    """The rows of cases.csv, completed for a partition that is stratified.

    A stratum is the classes that occur and how much of the image they take (a third of the cases each: little, middling, much).
    Images that are the same carry one name in `same_image`.
    """
    shares = {fact.name: fact.foreground for fact in facts}
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
            level: Level = "warning" if said & names else "error"
            message = (
                f"{folder.root / table}: {some(strange)}: no case has this name. Names are those of the images, without suffix."
            )
            yield Finding(level, "table", "", message)
    if folder.about and (forgotten := sorted(names - set(folder.about))) and names & set(folder.about):
        yield Finding("warning", "table", "", f"{folder.root / 'cases.csv'} says nothing of {some(forgotten)}.")


def _ignored(folder: DataFolder) -> Iterator[Finding]:
    used = {path for case in folder.cases for path in (*case.images, *[p for a in case.labels for p in a.paths])}
    for parent in sorted({path.parent for case in folder.cases for path in case.images}):
        if inside := sorted(
            path.name for path in parent.iterdir() if path.is_dir() and path not in used and not path.name.startswith(".")
        ):
            message = f"{parent}: the folders {', '.join(inside[:5])} are not looked into. Move their images up, if they matter."
            yield Finding("warning", "ignored", "", message)
    for parent in sorted({path.parent for path in used}):
        others = [p.name for p in sorted(parent.iterdir()) if p.is_file() and not p.name.startswith(".") and not suffix_of(p)]
        others = [name for name in others if not name.endswith((".raw", ".zraw", ".csv", ".json", ".txt", ".md"))]
        if others:
            yield Finding(
                "warning",
                "ignored",
                "",
                f"{parent}: files of no format that is known: {some(others)}. Convert them, if they matter.",
            )
