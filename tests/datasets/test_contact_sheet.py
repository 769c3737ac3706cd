"""The contact sheet: which cases are on it, in which order, and what marks those that cannot be
read.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.cli import main
from cdal.datasets.contact_sheet import write_contact_sheet
from cdal.datasets.folder import open_folder
from cdal.datasets.layout import DataFolder
from cdal.imaging.palette import PALETTE
from cdal.runtime.errors import UserError
from helpers.files import disc_folder

CELL, CAPTION = 224, 14


def cells(path: Path, columns: int) -> list[np.ndarray]:
    """The pictures of a sheet, row by row, without their captions."""
    sheet = np.asarray(Pillow.open(path))
    rows = len(sheet) // (CELL + CAPTION)
    assert sheet.shape == (rows * (CELL + CAPTION), columns * CELL, 3)
    grid = sheet.reshape(rows, CELL + CAPTION, columns, CELL, 3).swapaxes(1, 2)[:, :, CAPTION:]
    return list(grid.reshape(-1, CELL, CELL, 3))


def outlined(cell: np.ndarray) -> int:
    """Pixels in the colour of class 1."""
    return int((cell == PALETTE[1]).all(axis=-1).sum())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """Ten discs, whose radius grows from case to case."""
    return open_folder(disc_folder(tmp_path_factory.mktemp("sheet") / "data", count=10, radius=8))


def test_every_case_is_shown_with_its_outline(folder: DataFolder, tmp_path: Path):
    """The outline of a larger disc has more pixels, which shows the order."""
    found = [
        outlined(cell) for cell in cells(write_contact_sheet(tmp_path / "sheet.png", folder), 8)
    ]
    assert found[:10] == sorted(found[:10])
    assert found[0] > 100
    assert found[10:] == [0] * 6


@pytest.mark.parametrize("name", ["sheet.xyz", "sheet.jpg", "sheet"])
def test_a_sheet_is_a_png(name: str, folder: DataFolder, tmp_path: Path):
    with pytest.raises(UserError, match=r"expected a path that ends in \.png"):
        write_contact_sheet(tmp_path / name, folder)
    assert not list(tmp_path.iterdir())


def test_findings_are_told_though_the_sheet_cannot_be_written(
    folder: DataFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    words = ["check", str(folder.root), "--sheet", str(tmp_path / "file" / "sheet.png")]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "10 cases can be read" in told.out and "sheet.png cannot be written" in told.err
    assert main([*words, "--json"]) == 2
    assert "findings" in json.loads(capsys.readouterr().out)
    assert main([*words[:-1], str(tmp_path / "sheet.xyz")]) == 2
    assert capsys.readouterr().out == ""


def test_cases_that_are_asked_for_come_first(folder: DataFolder, tmp_path: Path):
    plain, chosen = (
        cells(write_contact_sheet(tmp_path / f"{len(first)}.png", folder, first), 8)
        for first in ([], ["c9", "c7"])
    )
    order = [7, 9, *range(7), 8]
    for cell, number in zip(chosen, order, strict=False):
        np.testing.assert_array_equal(cell, plain[number])


def test_a_large_folder_is_shown_at_even_distances(folder: DataFolder, tmp_path: Path):
    """Of 200 cases every fourth, and those that are asked for."""
    many = replace(
        folder, cases=tuple(replace(folder.cases[i % 10], name=f"{i:03d}") for i in range(200))
    )
    found = cells(write_contact_sheet(tmp_path / "sheet.png", many, ["199", "197"]), 8)
    rest = [i for i in range(200) if i not in (197, 199)][::4]
    plain = cells(write_contact_sheet(tmp_path / "plain.png", folder), 8)
    shown = [cell for cell in found if outlined(cell)]
    assert len(shown) == 2 + len(rest) <= 64
    for cell, number in zip(shown, [197, 199, *rest], strict=True):
        np.testing.assert_array_equal(cell, plain[number % 10])


def test_a_case_that_cannot_be_read_says_so_and_the_others_are_shown(tmp_path: Path):
    data = disc_folder(tmp_path / "data", count=3)
    folder = open_folder(data)
    (data / "images" / "c1.png").write_text("no picture")
    first, broken, last = cells(write_contact_sheet(tmp_path / "sheet.png", folder), 3)
    red = (broken[..., 0] > 200) & (broken[..., 1] < 100)
    assert outlined(first) and outlined(last) and not outlined(broken)
    assert red.any()


def test_without_known_classes_what_is_not_0_is_outlined(folder: DataFolder, tmp_path: Path):
    unknown = replace(folder, classes=(), values=())
    for ours, plain in zip(
        cells(write_contact_sheet(tmp_path / "unknown.png", unknown), 8),
        cells(write_contact_sheet(tmp_path / "known.png", folder), 8),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, plain)


def test_a_sheet_that_cannot_be_written_is_an_error(folder: DataFolder, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        write_contact_sheet(tmp_path / "file" / "sheet.png", folder)
