"""Finding faults of tables and of given partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from cdal.datasets.findings import CaseFacts, Finding, Level
from cdal.datasets.layout import DataFolder
from cdal.datasets.partition import Split, given_parts, has_split, need_apart
from cdal.datasets.tables import column_like_split
from cdal.recipes.recipe import DataSettings
from cdal.recipes.settings import DRAWN
from cdal.runtime.errors import UserError, first_few


def table_findings(folder: DataFolder) -> Iterator[Finding]:
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
                f"{folder.place / table}: {first_few(unknown)}: no case has this name. Names are "
                "those of the images, without suffix."
            )
            yield Finding(level, "table", "", message)
    if (
        folder.about
        and (unlisted := sorted(names - set(folder.about)))
        and names & set(folder.about)
    ):
        yield Finding(
            "warning", "table", "", f"{folder.table} has no row for {first_few(unlisted)}."
        )
    if column := column_like_split(list(folder.about.values())):
        message = (
            f"{folder.table}: the column {column!r} reads like a split, but only a column `split` "
            "keeps cases for the test. Rename it to split, or to something else."
        )
        yield Finding("error", "table", "", message)


def given_findings(folder: DataFolder, facts: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Find given partitions whose parts are unknown, share something, or lack classes.

    Scores on parts that share a case, a patient or an image would be too optimistic.
    """
    for source, parts in _given(folder):
        try:
            names = parts()
            need_apart(folder, names)
        except UserError as error:  # noqa: PERF203 (each partition has its own finding)
            yield Finding("error", "partition", "", f"{source}: {error}")
        else:
            for finding in lacking(folder, facts, names):
                yield replace(finding, message=f"{source}: {finding.message}")


Parts = Mapping[str, Sequence[str]]
"""Names of the cases of each part."""


def _given(folder: DataFolder) -> Iterator[tuple[str, Callable[[], Parts]]]:
    """Return each given partition: where it stands, and a function that returns its parts."""
    names = [case.name for case in folder.cases]
    if has_split(folder):
        source = (
            f"the column `split` of {folder.table.name}"
            if folder.table.is_file()
            else "the split by folders"
        )
        yield source, lambda: given_parts(folder)
    for partition, folds in folder.partitions.items():
        for i, fold in enumerate(folds):
            present = {part: [name for name in fold[part] if name in set(names)] for part in fold}
            assigned = {name for part in present.values() for name in part}
            parts = {"train": [name for name in names if name not in assigned], **present}
            yield f"fold {i} of {partition} in splits.json", partial(dict, parts)


def lacking(folder: DataFolder, facts: Sequence[CaseFacts], parts: Parts) -> Iterator[Finding]:
    """Find parts that lack a class which other cases have; the test may lack classes.

    Nothing can be learned without any foreground: that is an error.

    Args:
        folder: data folder with its classes.
        facts: facts about its cases.
        parts: names of the cases of each part.
    """
    values = range(len(folder.classes)) if folder.by_mask else folder.values
    present = {fact.name: {value for value in fact.voxels if fact.voxels[value]} for fact in facts}
    everywhere = {value for found in present.values() for value in found}
    for part in ("train", "validation"):
        names = [name for name in parts.get(part, ()) if name in present]
        if not names:
            continue
        found = {value for name in names for value in present[name]}
        classes = [
            name
            for name, value in zip(folder.classes, values, strict=False)
            if value and value in everywhere - found
        ]
        if part == "train" and not found - {0}:
            message = (
                "the part train holds no voxel of any foreground: there is nothing to learn. Put "
                "cases with foreground into it."
            )
            yield Finding("error", "partition", "", message)
        elif classes:
            effect = "it cannot be learned" if part == "train" else "it cannot be validated"
            message = (
                f"the part {part} holds no voxel of {first_few(classes)}, which other cases have: "
                f"{effect}. Put a case with it into {part}, or choose another fold."
            )
            yield Finding("warning", "partition", "", message)


def split_findings(
    folder: DataFolder, facts: Sequence[CaseFacts], split: Split, settings: DataSettings
) -> list[Finding]:
    """Find faults of the parts that a training uses.

    Args:
        folder: data folder with its classes.
        facts: facts about its cases.
        split: the parts.
        settings: settings that the parts were made with.
    """
    names = split.names()
    findings = list(lacking(folder, facts, names))
    if settings.partition in DRAWN and has_split(folder):
        kept = set(given_parts(folder)["test"])
        if used := sorted(kept & {*names["train"], *names["validation"]}):
            message = (
                f"{first_few(used)} would be used in the training, although the folder's own split "
                f"keeps them for the test: the partition {settings.partition} knows no split. Give "
                "--data.partition given to keep it."
            )
            findings.append(Finding("warning", "partition", "", message))
    return findings
