"""Which cases train, which choose the weights, and which are for the test."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError

SCHEMES = ("interleaved", "stratified", "given")
"""Partitions that need no file; any other name is one of `splits.json`."""

_SEED = 0


@dataclass(frozen=True)
class Split:
    """The cases of one fold, by part."""

    train: tuple[CaseFiles, ...]
    validation: tuple[CaseFiles, ...]
    test: tuple[CaseFiles, ...]

    def names(self) -> dict[str, list[str]]:
        """Names of the cases by part."""
        return {part: [case.name for case in getattr(self, part)] for part in ("train", "validation", "test")}


def fold_count(folder: DataFolder, settings: DataSettings) -> int:
    """How many folds the partition has: those of splits.json, or as many as the settings say."""
    return len(folder.partitions.get(settings.partition, ())) or settings.folds


def split_cases(folder: DataFolder, settings: DataSettings) -> Split:
    """The parts of fold `settings.fold`.

    `interleaved`: case i of the sorted names belongs to part i mod `folds`; test is part k, validation part k + 1, the others
    train. `stratified`: the same with parts drawn so that each stratum is spread evenly over them and no patient is in two, by the
    columns of cases.csv; `check_folder` completes them. `given`: the test cases of the column `split`; the others are parted as if
    stratified into `folds`, of which part k is for validation. Any other name: a partition of splits.json.

    Args:
        folder: the cases.
        settings: `partition`, `folds`, `fold`, `validation` and `patient`.

    Raises:
        UserError: there are too few cases, or the folder does not hold the partition.
    """
    if settings.partition == "interleaved":
        if len(folder.cases) < settings.folds:
            count, folds = len(folder.cases), settings.folds
            raise UserError(f"{folder.root}: expected at least {folds} cases for {folds} folds; it holds {count}.")
        parts = [list(folder.cases[part :: settings.folds]) for part in range(settings.folds)]
        split = _rotate(parts, settings.fold)
    elif settings.partition == "stratified":
        split = _rotate(_parts(folder, folder.cases, settings), settings.fold)
    elif settings.partition == "given":
        split = _given(folder, settings)
    else:
        split = _listed(folder, settings)
    empty = [part for part, names in split.names().items() if not names]
    if empty:
        raise UserError(
            f"{folder.root}: expected cases for training, validation and test; fold {settings.fold} of the partition "
            f"{settings.partition} leaves none for {' and '.join(empty)}. It holds {len(folder.cases)} cases; {settings.folds} "
            "folds need at least as many (and as many patients)."
        )
    need_apart(folder, split.names(), settings.patient)
    return split if settings.validation else Split((*split.train, *split.validation), (), split.test)


def groups_of(folder: DataFolder, cases: Sequence[CaseFiles], pattern: str | None) -> dict[str, str]:
    """The patient of each case: the column `patient` of cases.csv, or what the pattern finds in its name, or the case itself.

    Patients who share an image (`check_folder` notes images that are the same) are one.

    Raises:
        UserError: the pattern is no regular expression, or finds nothing in a name.
    """
    try:
        compiled = re.compile(pattern) if pattern else None
    except re.error as error:
        raise UserError(f"data.patient must be a regular expression, such as '^[^_]+'; {pattern!r} is none: {error}.") from error
    groups = {}
    for case in cases:
        patient = folder.about.get(case.name, {}).get("patient", case.name)
        if compiled is not None:
            found = compiled.search(case.name)
            if found is None:
                raise UserError(f"data.patient: the pattern {pattern!r} finds nothing in the name {case.name}.")
            patient = next((part for part in found.groups() if part), found.group())
        groups[case.name] = patient
    for case in cases:
        twin = folder.about.get(case.name, {}).get("same_image", case.name)
        first, second = groups.get(twin, case.name), groups[case.name]
        if first != second and twin in groups:
            groups = {name: first if patient == second else patient for name, patient in groups.items()}
    return groups


def need_apart(folder: DataFolder, parts: Mapping[str, Sequence[str]], pattern: str | None = None) -> None:
    """Refuse parts that share a case, a patient or an image.

    Args:
        folder: the cases.
        parts: names of cases by part.
        pattern: see `groups_of`.

    Raises:
        UserError: names them.
    """
    groups = groups_of(folder, folder.cases, pattern)
    for one, other in itertools.combinations(parts, 2):
        if both := sorted(set(parts[one]) & set(parts[other])):
            raise UserError(f"{folder.root}: {', '.join(both[:5])} would be in {one} and in {other}. Mend splits.json.")
        here = {groups[name]: name for name in parts[one]}
        if torn := [(here[groups[name]], name) for name in parts[other] if groups[name] in here]:
            first, second = torn[0]
            raise UserError(
                f"{folder.root}: {first} is in {one} and {second} in {other}, but they are of one patient or the same image"
                f"{f' (and {len(torn) - 1} more)' if len(torn) > 1 else ''}; the scores would say too much. Take --data.partition "
                "stratified, or mend the split."
            )


def _rotate(parts: list[list[CaseFiles]], fold: int) -> Split:
    validation = (fold + 1) % len(parts)
    rest = [case for part, cases in enumerate(parts) if part not in (fold, validation) for case in cases]
    return Split(_sorted(rest), _sorted(parts[validation]), _sorted(parts[fold]))


def _parts(folder: DataFolder, cases: Sequence[CaseFiles], settings: DataSettings) -> list[list[CaseFiles]]:
    groups = groups_of(folder, cases, settings.patient)
    if len(set(groups.values())) < settings.folds:
        raise UserError(
            f"{folder.root}: expected at least {settings.folds} patients for {settings.folds} folds; there are "
            f"{len(set(groups.values()))}, with {len(cases)} cases. Give a smaller --data.folds."
        )
    stratum = [folder.about.get(case.name, {}).get("stratum", "") for case in cases]
    pooled = [name if stratum.count(name) >= settings.folds else "rare" for name in stratum]
    by_group = [groups[case.name] for case in cases]
    alone = len(set(by_group)) == len(cases)  # then parts of equal size are possible
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # two seconds, for those who ask for it

    kind = StratifiedKFold if alone else StratifiedGroupKFold
    splitter = kind(settings.folds, shuffle=True, random_state=_SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the pooled stratum may still be smaller than the number of folds
        return [[cases[i] for i in part] for _, part in splitter.split(np.zeros(len(cases)), pooled, by_group)]


def _given(folder: DataFolder, settings: DataSettings) -> Split:
    column = {case.name: folder.about.get(case.name, {}).get("split", "") for case in folder.cases}
    if not any(column.values()):
        raise UserError(
            f"{folder.root}: the partition `given` needs a table cases.csv with the columns case and split; there is none."
        )
    strange = sorted(set(column.values()) - {"train", "validation", "test"})
    if strange or "test" not in column.values():
        raise UserError(
            f"{folder.root / 'cases.csv'}: expected a column `split` with train or test for every case (and validation, if you "
            f"like); {'it holds ' + ', '.join(map(repr, strange)) if strange else 'no case is for the test'}."
        )
    return _with_validation(folder, settings, {part: [n for n, p in column.items() if p == part] for part in set(column.values())})


def _listed(folder: DataFolder, settings: DataSettings) -> Split:
    path = folder.root / "splits.json"
    folds = folder.partitions.get(settings.partition)
    if not isinstance(folds, list):
        raise UserError(
            f"{path}: expected the partition {settings.partition!r}; it holds {', '.join(folder.partitions) or 'none'}. Public "
            f"sets get theirs by `cdal data prepare`; without a file there are {', '.join(SCHEMES)} (--data.partition)."
        )
    if not settings.fold < len(folds):
        raise UserError(
            f"{path}: the partition {settings.partition!r} has the folds 0 to {len(folds) - 1}; fold {settings.fold} came."
        )
    fold = folds[settings.fold]
    unknown = sorted({name for names in fold.values() for name in names} - {case.name for case in folder.cases})
    if unknown:
        raise UserError(f"{path}: the partition {settings.partition!r} names cases that are not there: {', '.join(unknown[:5])}.")
    return _with_validation(folder, settings, fold)


def _with_validation(folder: DataFolder, settings: DataSettings, names: Mapping[str, Sequence[str]]) -> Split:
    """Cases by part; where no case is said to be for validation, some of the training cases are drawn for it."""
    by_name = {case.name: case for case in folder.cases}
    test = [by_name[name] for name in names["test"]]
    train = [by_name[name] for name in names.get("train", [name for name in by_name if name not in set(names["test"])])]
    validation = [by_name[name] for name in names.get("validation", ())]
    chosen = {case.name for case in validation}
    if not validation:
        parts = _parts(folder, _sorted(train), settings)
        validation = parts[settings.fold % len(parts)]
        chosen = {case.name for case in validation}
    return Split(_sorted(case for case in train if case.name not in chosen), _sorted(validation), _sorted(test))


def _sorted(cases: Any) -> tuple[CaseFiles, ...]:
    return tuple(sorted(cases, key=lambda case: case.name))
