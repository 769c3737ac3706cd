"""Checking a data folder: problems and their remedies, and facts about the cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.datasets.check_case import look_at_case
from cdal.datasets.findings import CaseFacts, Check, Finding, Level
from cdal.datasets.folder import list_folder
from cdal.datasets.labels import MOST_CLASSES, propose, too_many, with_classes_of, with_names
from cdal.datasets.layout import DataFolder
from cdal.datasets.partition import need_apart
from cdal.imaging.annotations import label_suffix_of
from cdal.runtime.errors import UserError, some
from cdal.runtime.events import Event, Report, silent

__all__ = ["Check", "check_folder"]

_ODD_SPACING = 3.0
"""Largest acceptable ratio between a volume's spacing and the median spacing."""

_MANY = 8
"""If labels have more values than this, they may be object numbers instead of classes."""

_SATURATED = 128
"""If the only value of a mask is at least this, it means white, not a class."""


def check_folder(root: Path | str, report: Report = silent) -> Check:
    """Read all files of a data folder and report problems.

    Args:
        root: path of the data folder.
        report: function that receives an event for each case.

    Returns:
        The folder with its classes, the findings, and facts about the readable cases.

    Raises:
        UserError: the folder does not exist or has an unknown layout.
    """
    folder = list_folder(Path(root))
    findings = [Finding("error", "missing", "", problem) for problem in folder.problems]
    findings += _ignored(folder)
    facts: list[CaseFacts] = []
    listed = folder
    folder, problems = with_names(listed)
    findings += [Finding("error", "values", "", problem) for problem in problems]
    by_mask = any(
        name for case in folder.cases for annotation in case.labels for name, _ in annotation.files
    )
    if folder.classes and not listed.classes and (not by_mask or folder.cases != listed.cases):
        message = (
            f"the labels are taken as {_listed(folder)}. dataset.json can give another order, or "
            "leave classes out."
        )
        findings.append(Finding("note", "values", "", message))
    for number, case in enumerate(folder.cases, start=1):
        fact, case_findings = look_at_case(case, folder)
        findings += case_findings
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
            message = (
                f"the labels are taken as {_listed(folder)}. To name them, write dataset.json: "
                f"{{{propose(folder.values, ())}}}."
            )
            findings.append(Finding("note", "values", "", message))
    if facts and not any(any(fact.drawn) for fact in facts):
        findings.append(
            Finding(
                "error",
                "empty",
                "",
                "every mask is empty: there is nothing to learn. Are these the right masks?",
            )
        )
    findings += _table(folder)
    findings += [*_alike(facts), *_duplicates(facts)]
    order = {"error": 0, "warning": 1, "note": 2}
    folder = replace(folder, about=_known(folder, facts))
    findings += _torn(folder)
    return Check(
        folder, tuple(sorted(findings, key=lambda finding: order[finding.level])), tuple(facts)
    )


def _listed(folder: DataFolder) -> str:
    """Return the values of the classes and their names, for messages."""
    pairs = zip(folder.values, folder.classes, strict=True)
    return ", ".join(f"{value} = {name}" for value, name in pairs)


def _undeclared(folder: DataFolder, facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find values that dataset.json does not declare, and classes that no label contains."""
    for fact in facts:
        undeclared = sorted(set(fact.voxels) - set(folder.values))
        if undeclared and len(undeclared) <= MOST_CLASSES:
            message = (
                f"{fact.name}: expected the values {', '.join(map(str, folder.values))}, as "
                f"dataset.json declares; its label holds {', '.join(map(str, undeclared[:5]))}. "
                f"Declare {propose(folder.values, undeclared)}, or renumber the label."
            )
            yield Finding("error", "values", fact.name, message)
    for name, value in zip(folder.classes, folder.values, strict=True):
        if value and not any(value in fact.voxels for fact in facts):
            message = (
                f"no label holds {value} ({name}), which dataset.json declares. Nothing can be "
                "learned about it."
            )
            yield Finding("warning", "values", "", message)


def _no_classes(
    folder: DataFolder, facts: Sequence[CaseFacts], values: set[int]
) -> Iterator[Finding]:
    """Find signs that the values of undeclared labels are not classes."""
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
            f"{{{propose(values, ())}}}."
        )
        yield Finding("error", "values", "", message)
    elif (
        len(values) > _MANY
        and np.median([sum(value in fact.voxels for fact in facts) for value in values - {0}]) <= 1
    ):
        message = (
            f"the labels hold {len(values)} values, most of them in one case only. Are they "
            "numbered objects rather than classes?"
        )
        yield Finding("warning", "values", "", message)


def _alike(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find cases whose type, channels, dimensions or spacing differ from the others."""
    types = Counter(fact.stored for fact in facts)
    if len(types) > 1:
        listed = ", ".join(f"{count} {kind}" for kind, count in types.most_common())
        message = (
            f"images of several types: {listed}. Each is scaled to mean 0 and standard deviation "
            "1, unless the recipe says `range`."
        )
        yield Finding(
            "warning" if any(kind.startswith("uint16") for kind in types) else "note",
            "type",
            "",
            message,
        )
    channels = Counter(1 if fact.gray else fact.channels for fact in facts)
    if len(channels) > 1:
        listed = ", ".join(
            f"{count} of {number} channel(s)" for number, count in channels.most_common()
        )
        level: Level = "warning" if set(channels) == {1, 3} else "error"
        remedy = (
            "Gray ones can be repeated to 3 channels (--data.channels 3)"
            if level == "warning"
            else "Convert all to one kind"
        )
        yield Finding(
            level, "channels", "", f"expected images of one kind; there are {listed}. {remedy}."
        )
    dims = Counter(len(fact.shape) for fact in facts)
    if len(dims) > 1:
        yield Finding(
            "error",
            "shape",
            "",
            f"expected pictures or volumes; there are {dims[2]} pictures and {dims[3]} volumes. "
            "Separate them.",
        )
    placed = [fact for fact in facts if fact.spacing is not None]
    if placed:
        middle = np.median([fact.spacing for fact in placed], axis=0)
        for fact in placed:
            ratio = np.array(fact.spacing) / middle
            if ratio.max() > _ODD_SPACING or ratio.min() < 1 / _ODD_SPACING:
                own = " x ".join(f"{s:g}" for s in fact.spacing or ())
                usual = " x ".join(f"{s:g}" for s in middle)
                message = (
                    f"{fact.name}: its voxels are {own} mm, the others' {usual} mm. Is its header "
                    "right?"
                )
                yield Finding("warning", "spacing", fact.name, message)


def _duplicates(facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find images that occur more than once."""
    by_digest: dict[str, list[str]] = {}
    for fact in facts:
        by_digest.setdefault(fact.digest, []).append(fact.name)
    for names in (names for names in by_digest.values() if len(names) > 1):
        message = (
            f"{', '.join(names)}: the same image. Keep one of them; a partition that is "
            "`stratified` keeps them in one part."
        )
        yield Finding("warning", "duplicate", names[0], message)


def _torn(folder: DataFolder) -> Iterator[Finding]:
    """Find given partitions whose parts share a case, a patient or an image.

    Scores on such partitions would be too optimistic.
    """
    names = [case.name for case in folder.cases]
    given = {
        part: [n for n in names if folder.about.get(n, {}).get("split") == part]
        for part in ("train", "validation", "test")
    }
    listed = [("the column `split` of cases.csv", given)]
    for partition, folds in folder.partitions.items():
        for i, fold in enumerate(folds):
            present = {part: [name for name in fold[part] if name in set(names)] for part in fold}
            assigned = {name for part in present.values() for name in part}
            listed.append(
                (
                    f"fold {i} of {partition} in splits.json",
                    {"train": [n for n in names if n not in assigned], **present},
                )
            )
    for source, parts in listed:
        try:
            need_apart(folder, parts)
        except UserError as error:  # noqa: PERF203 (each partition has its own finding)
            yield Finding("error", "partition", "", f"{source}: {error}")


def _known(folder: DataFolder, facts: Sequence[CaseFacts]) -> dict[str, Mapping[str, str]]:
    """Return the rows of cases.csv with columns for stratified partitions added.

    The added columns are:

    - `stratum`, unless it exists: the classes in the case and the share of the image that they
      cover. The share is `little`, `middling` or `much`, for a third of the cases each.
    - `same_image`: the name of the first case with the same image.
    """
    shares = {fact.name: fact.foreground for fact in facts}
    low, high = np.quantile(list(shares.values()), [1 / 3, 2 / 3]) if facts else (0.0, 0.0)
    first: dict[str, str] = {}
    known: dict[str, Mapping[str, str]] = dict(folder.about)
    for fact in facts:
        present = "+".join(
            str(value) for value in sorted(fact.voxels) if value and fact.voxels[value]
        )
        amount = ("little", "middling", "much")[
            int(shares[fact.name] > low) + int(shares[fact.name] > high)
        ]
        twin = first.setdefault(fact.digest, fact.name)
        known[fact.name] = {
            "stratum": f"{present} {amount}",
            **folder.about.get(fact.name, {}),
            "same_image": twin,
        }
    return known


def _masks_by_class(folder: DataFolder) -> Iterator[Finding]:
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


def _table(folder: DataFolder) -> Iterator[Finding]:
    """Find unknown names in cases.csv and splits.json, and cases missing from cases.csv."""
    names = {case.name for case in folder.cases}
    tables = {"cases.csv": set(folder.about)} if folder.about else {}
    listed = {
        name
        for folds in folder.partitions.values()
        for fold in folds
        for part in fold.values()
        for name in part
    }
    tables |= {"splits.json": listed} if listed else {}
    for table, mentioned in tables.items():
        if unknown := sorted(mentioned - names):
            level: Level = "warning" if mentioned & names else "error"
            message = (
                f"{folder.root / table}: {some(unknown)}: no case has this name. Names are those "
                "of the images, without suffix."
            )
            yield Finding(level, "table", "", message)
    if (
        folder.about
        and (unlisted := sorted(names - set(folder.about)))
        and names & set(folder.about)
    ):
        yield Finding(
            "warning", "table", "", f"{folder.root / 'cases.csv'} has no row for {some(unlisted)}."
        )


def _ignored(folder: DataFolder) -> Iterator[Finding]:
    used = {
        path
        for case in folder.cases
        for path in (*case.images, *[p for a in case.labels for p in a.paths])
    }
    for parent in sorted({path.parent for case in folder.cases for path in case.images}):
        if subfolders := sorted(
            path.name
            for path in parent.iterdir()
            if path.is_dir() and path not in used and not path.name.startswith(".")
        ):
            message = (
                f"{parent}: the folders {', '.join(subfolders[:5])} are not searched. Move their "
                "images up, if they matter."
            )
            yield Finding("warning", "ignored", "", message)
    for parent in sorted({path.parent for path in used}):
        unreadable = [
            p.name
            for p in sorted(parent.iterdir())
            if p.is_file() and not p.name.startswith(".") and not label_suffix_of(p)
        ]
        unreadable = [
            name
            for name in unreadable
            if not name.endswith((".raw", ".zraw", ".csv", ".json", ".txt", ".md"))
        ]
        if unreadable:
            yield Finding(
                "warning",
                "ignored",
                "",
                f"{parent}: files of unknown format: {some(unreadable)}. Convert them, if they "
                "matter.",
            )
