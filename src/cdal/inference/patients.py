"""The patients of images that are in no data folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cdal.datasets.layout import CASES
from cdal.datasets.partition import patient_finder
from cdal.datasets.tables import read_about
from cdal.inference.inputs import Input


def find_patients(inputs: Sequence[Input], pattern: str | None) -> tuple[list[str], str]:
    """Return the patient of each image, and in words how they were found.

    The patient is what the pattern finds in the name of the image. Without a pattern, it is the
    column `patient` of a `cases.csv` in the folder of the image or in the folder above; without
    that, every image is a patient of its own.

    Args:
        inputs: the images.
        pattern: regular expression, see `cdal.datasets.partition.patient_finder`.

    Raises:
        UserError: the pattern is not a regular expression or finds nothing in a name, or a table
            cannot be used.
    """
    if pattern:
        find = patient_finder(pattern, "--patient")
        patients = [find(entry.name) for entry in inputs]
        return patients, f"{len(set(patients))} patients, found by {pattern!r}"
    tables: dict[Path, Mapping[str, Mapping[str, str]]] = {}
    used: dict[Path, set[str]] = {}
    patients = []
    for entry in inputs:
        patient = ""
        for folder in (entry.path.parent, entry.path.parent.parent):
            table = folder / CASES
            if table not in tables:
                tables[table] = read_about(table)
            if not patient and (patient := tables[table].get(entry.name, {}).get("patient", "")):
                used.setdefault(table, set()).add(patient)
        patients.append(patient or str(entry.path))
    if not used:
        return patients, "every image counts as a patient of its own"
    alone = len(set(patients)) - len(set().union(*used.values()))
    note = f"{len(set().union(*used.values()))} patients of {', '.join(map(str, used))}"
    return patients, note + (f"; {alone} images of no known patient" if alone else "")
