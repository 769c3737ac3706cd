"""Checking a data folder: problems and their remedies, and facts about the cases."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.datasets.check_case import look_at_case
from cdal.datasets.check_files import alike, duplicates, ignored, other_channels
from cdal.datasets.check_tables import given_findings, table_findings
from cdal.datasets.check_values import masks_by_class, no_classes, undeclared
from cdal.datasets.findings import FEWEST, CaseFacts, Check, Finding
from cdal.datasets.folder import list_folder
from cdal.datasets.labels import MOST_CLASSES, propose, with_classes_of, with_names
from cdal.datasets.layout import DataFolder
from cdal.datasets.palettes import clashing_palettes
from cdal.runtime.events import Event, Report, silent

__all__ = ["Check", "check_folder", "check_listed"]


def check_folder(root: Path | str, report: Report = silent) -> Check:
    """Read all files of a data folder and report problems.

    Args:
        root: path of the data folder, or of a table that lists images and labels.
        report: function that receives an event for each case.

    Returns:
        The folder with its classes, the findings, and facts about the readable cases.

    Raises:
        UserError: the folder does not exist or has an unknown layout.
    """
    folder = list_folder(Path(root))
    return check_listed(folder, report, ignored(folder))


def check_listed(
    listed: DataFolder, report: Report = silent, known: Iterable[Finding] = ()
) -> Check:
    """Read all files of a data folder that is listed already, and report problems.

    Args:
        listed: the folder, as `list_folder` returns it.
        report: function that receives an event for each case.
        known: findings so far.
    """
    findings = [Finding("error", "missing", "", problem) for problem in listed.problems]
    findings += [Finding("warning", "ignored", "", message) for message in listed.passed_over]
    findings += known
    facts: list[CaseFacts] = []
    folder, problems = with_names(listed)
    findings += [Finding("error", "values", "", problem) for problem in problems]
    if (
        folder.classes
        and not listed.classes
        and (not folder.by_mask or folder.cases != listed.cases)
    ):
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
    faulty = {f.case for f in findings if (f.level, f.kind) == ("error", "values")}
    folder, value_findings = _with_classes(folder, facts, faulty)
    findings += value_findings
    if facts and not any(any(fact.drawn) for fact in facts):
        findings.append(
            Finding(
                "error",
                "empty",
                "",
                "every mask is empty: there is nothing to learn. Are these the right masks?",
            )
        )
    if len(facts) < FEWEST:
        message = (
            f"a training needs at least {FEWEST} cases (training, validation and test); there are "
            f"{len(facts)}."
        )
        findings.append(Finding("note", "missing", "", message))
    findings += table_findings(folder)
    findings += [*other_channels(folder, facts), *alike(facts), *duplicates(facts)]
    findings += clashing_palettes(facts)
    order = {"error": 0, "warning": 1, "note": 2}
    folder = replace(folder, about=_known(folder, facts))
    findings += given_findings(folder, facts)
    return Check(
        folder, tuple(sorted(findings, key=lambda finding: order[finding.level])), tuple(facts)
    )


def _listed(folder: DataFolder) -> str:
    """Return the values of the classes and their names, for messages."""
    pairs = zip(folder.values, folder.classes, strict=True)
    return ", ".join(f"{value} = {name}" for value, name in pairs)


def _with_classes(
    folder: DataFolder, facts: Sequence[CaseFacts], faulty: Collection[str]
) -> tuple[DataFolder, list[Finding]]:
    """Return the folder with its classes, and what is wrong with the values of its labels.

    Args:
        folder: data folder.
        facts: facts about its cases.
        faulty: cases for whose values there is a finding already.
    """
    if folder.by_mask:
        return folder, list(masks_by_class(folder))
    if folder.classes:
        return folder, list(undeclared(folder, facts, faulty))
    values = {0} | {value for fact in facts for value in fact.voxels}
    findings = list(no_classes(folder, facts, values))
    if len(values) > MOST_CLASSES:
        return folder, findings
    folder = with_classes_of(folder, values)
    if not facts:
        return folder, findings
    message = (
        f"the labels are taken as {_listed(folder)}. To name them, write dataset.json: "
        f"{{{propose(folder.values, ())}}}."
    )
    return folder, [*findings, Finding("note", "values", "", message)]


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
