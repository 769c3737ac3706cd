"""A table that lists images and labels."""

from __future__ import annotations

from pathlib import Path

import pytest

import cdal
from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.datasets.derive import folder_recipe
from cdal.datasets.folder import open_folder
from cdal.datasets.partition import split_cases
from cdal.runtime.errors import UserError
from helpers.layouts import pair, table, write_table


def rows(root: Path, count: int = 6, **columns: str) -> list[dict[str, str]]:
    for i in range(count):
        pair(root / f"scans/s{i}.png", root / f"drawn/{i}.png", i)
    return [
        {"image": f"scans/s{i}.png", "label": f"drawn/{i}.png", **columns} for i in range(count)
    ]


def test_cases_are_called_after_their_image_unless_named(tmp_path: Path):
    listed = rows(tmp_path)
    assert [case.name for case in open_folder(write_table(tmp_path / "a.csv", listed)).cases] == [
        f"s{i}" for i in range(6)
    ]
    named = [{**row, "case": f"case {i}", "patient": "p"} for i, row in enumerate(listed)]
    folder = open_folder(write_table(tmp_path / "b.csv", named, ";"))
    assert [case.name for case in folder.cases] == [f"case {i}" for i in range(6)]
    assert folder.about["case 0"]["patient"] == "p"


def test_paths_may_be_absolute_and_of_windows(tmp_path: Path):
    listed = rows(tmp_path)
    listed[0]["image"] = str(tmp_path / "scans/s0.png")
    listed[1]["label"] = "drawn\\1.png"
    assert len(open_folder(write_table(tmp_path / "a.csv", listed)).cases) == 6


def test_the_split_of_a_table_is_kept(tmp_path: Path):
    listed = [
        {**row, "Split": ("Test", "VAL", "train")[min(i, 2)]}
        for i, row in enumerate(rows(tmp_path))
    ]
    checked = check_folder(write_table(tmp_path / "a.csv", listed))
    recipe = folder_recipe(checked).recipe
    assert recipe.data.partition == "given"
    names = split_cases(checked.folder, recipe.data).names()
    assert (names["test"], names["validation"]) == (["s0"], ["s1"])
    assert names["train"] == ["s2", "s3", "s4", "s5"]


def test_what_is_beside_the_table_describes_it(tmp_path: Path):
    path = write_table(tmp_path / "a.csv", rows(tmp_path))
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "disc": 1}}')
    (tmp_path / "splits.json").write_text('{"mine": [{"test": ["s0"]}]}')
    folder = open_folder(path)
    assert folder.classes == ("background", "disc")
    assert set(folder.partitions) == {"mine"}


FAULTS = {
    "missing files": (
        lambda rows: rows[2].update(image="scans/gone.png") or rows[4].update(label="none.png"),
        r"gone\.png \(line 4\), .*none\.png \(line 6\)",
    ),
    "no label": (lambda rows: rows[1].pop("label"), "line 3: .*there is no label"),
    "same name": (lambda rows: rows[1].update(image=rows[0]["image"]), "s0 has several"),
    "same label": (lambda rows: rows[1].update(label=rows[0]["label"]), "label of several cases"),
    "no image": (lambda rows: rows[0].update(image="list.csv"), "is no image that can be read"),
    "control characters": (lambda rows: rows[0].update(image="a\x1b.png"), "control characters"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_with_their_lines(fault: str, tmp_path: Path):
    break_it, message = FAULTS[fault]
    listed = rows(tmp_path)
    break_it(listed)
    path = write_table(tmp_path / "list.csv", listed)
    with pytest.raises(UserError, match=message):
        open_folder(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a row for each case"),
        (b"image,label\n", "expected a row for each case"),
        (b"case,split\na,test\n", "there is no image and no label"),
        (b"image,image\na,b\n", "'image' occurs twice"),
        (b"image,label\na,b,c\n", "line 2: expected 2 cells, one for each column; it has 3"),
        (b'image,label\n"a,b\n', "line 2: expected quotation marks in pairs"),
        (b"\nimage,label\na,b\n", "line 1: expected the names of the columns; it is empty"),
        (b"image,label\n" + b"x" * 2**17 + b"x,b\n", "line 2: expected cells of up to 131072"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
    ],
)
def test_tables_of_another_form_are_refused(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_folder(tmp_path / "a.csv")


def test_a_table_is_trained_on_and_scored(tmp_path: Path):
    path = table(tmp_path / "data")
    run = tmp_path / "run"
    words = ["--data", str(path), "--steps", "1", "--data.size=[16,16]", "--training.batch", "1"]
    assert main(["train", "folder", *words, "--out", str(run)]) == 0
    scores = cdal.evaluate(run, path, cdal.Sampling(votes=1, timesteps=0))
    assert scores.summary()["cases"] == 2
