"""Partitions of the cases into training, validation and test."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.tables import PARTS
from cdal.recipes.recipe import DataSettings
from cdal.recipes.settings import DRAWN
from cdal.runtime.errors import UserError, first_few

SCHEMES = (*DRAWN, "given")
"""Partitions that need no file; other names refer to `splits.json`."""

_SEED = 0
_NNUNET_FOLDS, _NNUNET_SEED = 5, 12345


@dataclass(frozen=True)
class Split:
    """The cases of one fold, by part."""

    train: tuple[CaseFiles, ...]
    validation: tuple[CaseFiles, ...]
    test: tuple[CaseFiles, ...]

    def names(self) -> dict[str, list[str]]:
        """Return the names of the cases, by part."""
        return {
            part: [case.name for case in getattr(self, part)]
            for part in ("train", "validation", "test")
        }


def fold_count(folder: DataFolder, settings: DataSettings) -> int:
    """Return the number of folds in splits.json, or in the settings if it lacks the partition."""
    return len(folder.partitions.get(settings.partition, ())) or settings.folds


def split_cases(folder: DataFolder, settings: DataSettings) -> Split:
    """Return the parts of fold `settings.fold`.

    The partition is one of:

    - `interleaved`: case i of the sorted names is in part i mod `folds`. In fold k, part k is for
      the test, part k + 1 is for validation, and the other parts are for training.
    - `stratified`: the same, but the parts are drawn. Each stratum is spread evenly over the parts,
      and all cases of a patient are in one part. Strata and patients are columns of cases.csv;
      `check_folder` adds missing strata.
    - `nnu-net`: the same with the five folds of nnU-Net, so that its results can be compared case
      by case: the sorted names, shuffled by scikit-learn's KFold with nnU-Net's seed. Patients and
      strata count for nothing. nnU-Net has no validation part; neither is there one without
      `validation`.
    - `given`: the column `split` of cases.csv gives the test cases. The other cases are split into
      `folds` stratified parts, of which part k is for validation.
    - any other name: a partition in splits.json.

    Args:
        folder: data folder.
        settings: settings of which `partition`, `folds`, `fold`, `validation` and `patient` are
            used.

    Raises:
        UserError: there are too few cases, the parts share a patient or an image, or the folder
            does not have the partition.
    """
    if settings.partition == "interleaved":
        if len(folder.cases) < settings.folds:
            count, folds = len(folder.cases), settings.folds
            raise UserError(
                f"{folder.root}: expected at least {folds} cases for {folds} folds; it holds "
                f"{count}."
            )
        parts = [list(folder.cases[part :: settings.folds]) for part in range(settings.folds)]
        split = _rotate(parts, settings.fold)
    elif settings.partition == "stratified":
        split = _rotate(_parts(folder, folder.cases, settings), settings.fold)
    elif settings.partition == "nnu-net":
        split = _rotate(_nnunet(folder, settings), settings.fold)
    elif settings.partition == "given":
        split = _given(folder, settings)
    else:
        split = _listed(folder, settings)
    empty = [part for part, names in split.names().items() if not names]
    if empty:
        raise UserError(
            f"{folder.root}: expected cases for training, validation and test; fold "
            f"{settings.fold} of the partition {settings.partition} leaves none for "
            f"{' and '.join(empty)}. It holds {len(folder.cases)} cases; {settings.folds} folds "
            "need at least as many (and as many patients)."
        )
    need_apart(folder, split.names(), settings.patient)
    return (
        split if settings.validation else Split((*split.train, *split.validation), (), split.test)
    )


def groups_of(
    folder: DataFolder, cases: Sequence[CaseFiles], pattern: str | None
) -> dict[str, str]:
    """Return the patient of each case.

    The patient is what the pattern finds in the name of the case. Without a pattern, it is the
    column `patient` of cases.csv, or the case itself if there is no such column. Patients who share
    an image count as one; `check_folder` detects equal images.

    Args:
        folder: data folder.
        cases: cases to look up.
        pattern: regular expression, or `None`.

    Raises:
        UserError: the pattern is not a regular expression, or finds nothing in a name.
    """
    find = patient_finder(pattern) if pattern else None
    groups = {}
    for case in cases:
        stated = folder.about.get(case.name, {}).get("patient", case.name)
        groups[case.name] = stated if find is None else find(case.name)
    for case in cases:
        twin = folder.about.get(case.name, {}).get("same_image", case.name)
        first, second = groups.get(twin, case.name), groups[case.name]
        if first != second and twin in groups:
            groups = {
                name: first if patient == second else patient for name, patient in groups.items()
            }
    return groups


def patient_finder(pattern: str, option: str = "data.patient") -> Callable[[str], str]:
    """Return a function that finds the patient in a name.

    The patient is the first group of the pattern that is not empty, or all that it matches. The
    function raises UserError if the pattern finds nothing.

    Args:
        pattern: regular expression.
        option: name of the option, for error messages.

    Raises:
        UserError: the pattern is not a regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"{option} must be a regular expression, such as '^[^_]+'; {pattern!r} is not one: "
            f"{error}."
        ) from error

    def find(name: str) -> str:
        match = compiled.search(name)
        if match is None:
            raise UserError(f"{option}: the pattern {pattern!r} finds nothing in the name {name}.")
        return next((part for part in match.groups() if part), match.group())

    return find


def need_apart(
    folder: DataFolder, parts: Mapping[str, Sequence[str]], pattern: str | None = None
) -> None:
    """Require that parts do not share a case, a patient or an image.

    Args:
        folder: data folder.
        parts: names of the cases, by part.
        pattern: regular expression for patients, see `groups_of`.

    Raises:
        UserError: parts share a case, a patient or an image; the message names the cases.
    """
    groups = groups_of(folder, folder.cases, pattern)
    for first, second in itertools.combinations(parts, 2):
        if shared := sorted(set(parts[first]) & set(parts[second])):
            raise UserError(
                f"{folder.root}: {', '.join(shared[:5])} would be in {first} and in {second}. "
                "Correct splits.json."
            )
        case_of = {groups[name]: name for name in parts[first]}
        if pairs := [
            (case_of[groups[name]], name) for name in parts[second] if groups[name] in case_of
        ]:
            case, related = pairs[0]
            raise UserError(
                f"{folder.root}: {case} is in {first} and {related} in {second}, but they are of "
                "one patient or the same image"
                f"{f' (and {len(pairs) - 1} more)' if len(pairs) > 1 else ''}; the scores would be "
                "too optimistic. Use --data.partition stratified, or correct the split."
            )


def _rotate(parts: list[list[CaseFiles]], fold: int) -> Split:
    if not 0 <= fold < len(parts):
        raise UserError(f"the fold must be 0 to {len(parts) - 1}; it is {fold}.")
    validation = (fold + 1) % len(parts)
    rest = [
        case for part, cases in enumerate(parts) if part not in (fold, validation) for case in cases
    ]
    return Split(_sorted(rest), _sorted(parts[validation]), _sorted(parts[fold]))


def _parts(
    folder: DataFolder, cases: Sequence[CaseFiles], settings: DataSettings
) -> list[list[CaseFiles]]:
    groups = groups_of(folder, cases, settings.patient)
    if len(set(groups.values())) < settings.folds:
        raise UserError(
            f"{folder.root}: expected at least {settings.folds} patients for {settings.folds} "
            f"folds; there are {len(set(groups.values()))}, with {len(cases)} cases. Give a "
            "smaller --data.folds."
        )
    strata = [folder.about.get(case.name, {}).get("stratum", "") for case in cases]
    pooled = [name if strata.count(name) >= settings.folds else "rare" for name in strata]
    by_group = [groups[case.name] for case in cases]
    # If every case is its own patient, parts of equal size are possible.
    ungrouped = len(set(by_group)) == len(cases)
    # Imported here because it takes two seconds.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    splitter_class = StratifiedKFold if ungrouped else StratifiedGroupKFold
    splitter = splitter_class(settings.folds, shuffle=True, random_state=_SEED)
    with warnings.catch_warnings():
        # The pooled stratum may still have fewer cases than there are folds.
        warnings.simplefilter("ignore")
        return [
            [cases[i] for i in part]
            for _, part in splitter.split(np.zeros(len(cases)), pooled, by_group)
        ]


def _nnunet(folder: DataFolder, settings: DataSettings) -> list[list[CaseFiles]]:
    """The test cases of each of nnU-Net's folds (its `generate_crossval_split`)."""
    if settings.folds != _NNUNET_FOLDS or len(folder.cases) < _NNUNET_FOLDS:
        raise UserError(
            f"{folder.root}: nnU-Net divides {_NNUNET_FOLDS} cases or more into {_NNUNET_FOLDS} "
            f"folds; there are {len(folder.cases)} cases, and data.folds is {settings.folds}. Give "
            f"--data.folds {_NNUNET_FOLDS}, or another partition."
        )
    from sklearn.model_selection import KFold  # takes two seconds

    cases = sorted(folder.cases, key=lambda case: case.name)
    splitter = KFold(_NNUNET_FOLDS, shuffle=True, random_state=_NNUNET_SEED)
    return [[cases[i] for i in part] for _, part in splitter.split(cases)]


def has_split(folder: DataFolder) -> bool:
    """Whether the folder, its layout or its table of cases gives a split."""
    words = {folder.about.get(case.name, {}).get("split", "") for case in folder.cases}
    return bool(words - {""}) and words != {"train"}


def given_parts(folder: DataFolder) -> dict[str, list[str]]:
    """Return the names of the cases of each part that the folder gives.

    Raises:
        UserError: a case has no part or an unknown one, or no case is for the test.
    """
    column = {case.name: folder.about.get(case.name, {}).get("split", "") for case in folder.cases}
    unknown = sorted({word for word in column.values() if word not in PARTS and word})
    without = [name for name, word in column.items() if not word]
    if unknown or without or "test" not in column.values():
        found = (
            f"it holds {first_few([repr(word) for word in unknown])}"
            if unknown
            else f"{first_few(without)} has none"
            if without
            else "no case is for the test"
        )
        if not folder.table.is_file():
            raise UserError(
                f"{folder.root}: expected a folder test/ beside the others; {found}. Add it, or "
                "move all images and labels into images/ and labels/."
            )
        raise UserError(
            f"{folder.table}: expected a column `split` with train or test for every case (and "
            f"validation, if you like); {found}. Correct it, or remove the column."
        )
    return {part: [name for name, word in column.items() if word == part] for part in PARTS}


def _given(folder: DataFolder, settings: DataSettings) -> Split:
    if not any(folder.about.get(case.name, {}).get("split") for case in folder.cases):
        raise UserError(
            f"{folder.root}: the partition `given` needs a table cases.csv with the columns case "
            "and split; none was found."
        )
    return _with_validation(folder, settings, given_parts(folder))


def _listed(folder: DataFolder, settings: DataSettings) -> Split:
    path = folder.place / "splits.json"
    folds = folder.partitions.get(settings.partition)
    if not isinstance(folds, list):
        raise UserError(
            f"{path}: expected the partition {settings.partition!r}; it holds "
            f"{', '.join(folder.partitions) or 'none'}. Public sets get theirs from `cdal data "
            f"prepare`; without a file there are {', '.join(SCHEMES)} (--data.partition)."
        )
    if not settings.fold < len(folds):
        raise UserError(
            f"{path}: the partition {settings.partition!r} has the folds 0 to {len(folds) - 1}; "
            f"there is no fold {settings.fold}."
        )
    fold = folds[settings.fold]
    unknown = sorted(
        {name for names in fold.values() for name in names} - {case.name for case in folder.cases}
    )
    if unknown:
        raise UserError(
            f"{path}: the partition {settings.partition!r} names cases that are not there: "
            f"{', '.join(unknown[:5])}."
        )
    return _with_validation(folder, settings, fold)


def _with_validation(
    folder: DataFolder, settings: DataSettings, names: Mapping[str, Sequence[str]]
) -> Split:
    """Return the parts; draw validation cases from the training cases if none are listed."""
    by_name = {case.name: case for case in folder.cases}
    test = [by_name[name] for name in names["test"]]
    train = [
        by_name[name]
        for name in names.get("train", [name for name in by_name if name not in set(names["test"])])
    ]
    validation = [by_name[name] for name in names.get("validation", ())]
    chosen = {case.name for case in validation}
    if not validation:
        parts = _parts(folder, _sorted(train), settings)
        validation = parts[settings.fold % len(parts)]
        chosen = {case.name for case in validation}
    return Split(
        _sorted(case for case in train if case.name not in chosen),
        _sorted(validation),
        _sorted(test),
    )


def _sorted(cases: Any) -> tuple[CaseFiles, ...]:
    return tuple(sorted(cases, key=lambda case: case.name))
