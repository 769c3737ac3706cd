"""Cases in memory, on disk and nowhere: the same batches, and a cache that mends itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cdal.datasets import cache
from cdal.datasets.cache import Cases, open_cases
from cdal.datasets.cases import BatchSource, Case, fingerprints, load_case
from cdal.datasets.folder import open_folder
from cdal.datasets.layout import DataFolder
from helpers.recipes import small_recipe

DATA = small_recipe().data


@pytest.fixture
def folder(phantoms: Path, tmp_path: Path) -> DataFolder:
    shutil.copytree(phantoms, tmp_path / "data")
    return open_folder(tmp_path / "data")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the cases that are decoded."""
    names: list[str] = []

    def load(files: cache.CaseFiles, *others: object) -> Case:
        names.append(files.name)
        return load_case(files, *others)

    monkeypatch.setattr(cache, "load_case", load)
    return names


def opened(folder: DataFolder, kind: cache.Cache, place: Path, share: float = 0.0) -> Cases:
    return open_cases(folder.cases, folder, DATA, kind, place, share=share)


def equal(first: Case, second: Case) -> bool:
    return first.name == second.name and all(
        torch.equal(a, b) and a.dtype == b.dtype
        for a, b in ((first.image, second.image), (first.labels, second.labels))
    )


def test_a_batch_is_the_same_wherever_the_cases_are(folder: DataFolder, tmp_path: Path):
    kinds = ("memory", "disk", "none")
    cases = [opened(folder, kind, tmp_path / "cases") for kind in kinds]
    assert len({tuple(fingerprints(some, some)) for some in cases}) == 1
    first, *others = [BatchSource(some, DATA, 4, 0, 2)(7) for some in cases]
    for batch in others:
        assert batch.cases == first.cases
        assert torch.equal(batch.image, first.image)
        assert torch.equal(batch.labels(), first.labels())


def test_each_case_is_decoded_once_to_disk_and_kept_from_then_on(
    folder: DataFolder, tmp_path: Path, decoded: list[str]
):
    """A process that begins at another case makes the same files."""
    names = [case.name for case in folder.cases]
    cases = opened(folder, "disk", tmp_path / "cases", share=0.5)
    assert sorted(decoded) == names
    assert decoded[1] == names[len(names) // 2]
    again = opened(folder, "disk", tmp_path / "cases")
    assert len(decoded) == len(names)
    assert all(equal(a, b) for a, b in zip(cases, again, strict=True))


def test_none_keeps_nothing(folder: DataFolder, tmp_path: Path, decoded: list[str]):
    cases = opened(folder, "none", tmp_path / "cases")
    before = len(decoded)
    assert cases[3].name == folder.cases[3].name
    assert len(decoded) == before + 1
    assert not (tmp_path / "cases").exists()


@pytest.mark.parametrize("damage", ["cut", "one byte", "empty", "no file"])
def test_a_damaged_file_is_made_anew(
    folder: DataFolder, tmp_path: Path, decoded: list[str], damage: str
):
    place = tmp_path / "cases"
    good = list(opened(folder, "disk", place))
    path = sorted(place.iterdir())[5]
    content = path.read_bytes()
    path.unlink()  # a file that is mapped must not be cut
    if damage != "no file":
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes({"cut": content[:-9], "one byte": flipped, "empty": b""}[damage])
    decoded.clear()
    again = opened(folder, "disk", place)
    assert len(decoded) == 1
    assert path.read_bytes() == content
    assert all(equal(a, b) for a, b in zip(again, good, strict=True))


def test_a_case_whose_files_have_changed_is_made_anew(
    folder: DataFolder, tmp_path: Path, decoded: list[str]
):
    opened(folder, "disk", tmp_path / "cases")
    decoded.clear()
    os.utime(folder.cases[2].labels[0].paths[0], (1, 1))
    opened(folder, "disk", tmp_path / "cases")
    assert decoded == [folder.cases[2].name]
    decoded.clear()
    other = replace(DATA, intensities="range")
    open_cases(folder.cases, folder, other, "disk", tmp_path / "cases")
    assert len(decoded) == len(folder.cases)


def test_what_is_killed_while_it_writes_leaves_nothing_half_made(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The end comes between the content and its name."""

    class KilledError(BaseException):
        pass

    def kill(self: Path, target: Path) -> None:
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(Path, "replace", kill)
        opened(folder, "disk", tmp_path / "cases")
    assert not (tmp_path / "cases").exists()
    again = opened(folder, "disk", tmp_path / "cases")
    assert all(equal(a, b) for a, b in zip(again, opened(folder, "memory", tmp_path), strict=True))
