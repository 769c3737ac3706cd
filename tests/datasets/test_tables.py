"""Reading dataset.json, splits.json and tables of cases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdal.datasets.check import check_folder
from cdal.datasets.tables import (
    column_like_split,
    delimiter_of,
    part_of,
    read_about,
    read_json,
    read_partitions,
    read_rows,
)
from cdal.runtime.errors import UserError
from helpers.files import disc_folder, kinds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('{"labels": {"liver": 1, "liver": 2}}', "'liver' occurs twice"),
        ('["a"]', "expected a JSON object"),
        ('{"a": ' + "1" * 5000 + "}", "cannot be read as JSON"),
    ],
)
def test_json_that_cannot_be_used_is_refused(content: str, message: str, tmp_path: Path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "x.json")


def test_files_of_windows_are_read(tmp_path: Path):
    """They begin with a byte order mark, and Excel may separate by semicolons."""
    (tmp_path / "x.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "x.json") == {"a": 1}
    (tmp_path / "cases.csv").write_text("Case;Split\r\na;Test\r\n\r\n", encoding="utf-8-sig")
    assert read_about(tmp_path / "cases.csv") == {"a": {"case": "a", "split": "test"}}
    assert read_about(tmp_path / "none.csv") == read_json(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("head", "sign"),
    [
        ("case", ","),
        ("case,split", ","),
        ("Case;Split", ";"),
        ("case\tsplit", "\t"),
        ('case;"age, sex, site"', ";"),
        ("age, sex, site;case", ";"),
        ("a;b;c", ";"),
    ],
)
def test_the_heading_tells_what_separates_the_columns(head: str, sign: str):
    assert delimiter_of(head, ("case",)) == sign


def test_a_row_has_the_number_of_its_first_line(tmp_path: Path):
    (tmp_path / "cases.csv").write_text('case,site\n"a","x\ny"\n\n\nb,z\n', encoding="utf-8")
    assert [(line, row["case"]) for line, row in read_rows(tmp_path / "cases.csv")] == [
        (2, "a"),
        (6, "b"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 5}', "expected"),
        ('{"a": []}', "expected"),
        ('{"a": [5]}', "expected"),
        ('{"a": [["c0"]]}', "expected"),
        ('{"a": [{"test": null}]}', "expected"),
        ('{"a": [{"test": "c0"}]}', "expected"),
        ('{"a": [{"test": [["c0"]]}]}', "expected"),
        ('{"a": [{"test": [1]}]}', "expected"),
        ('{"a": [{"train": ["c0"]}]}', "expected"),
        ('{"a": [{"test": ["c0"], "holdout": ["c1"]}]}', "expected"),
        ('{"a": [{"test": ["c0"], "val": ["c1"], "validation": ["c2"]}]}', "expected"),
        ('{"a": [{"test": ["c0", "c0"]}]}', "names c0 twice in test"),
    ],
)
def test_partitions_of_another_form_are_refused(content: str, message: str, tmp_path: Path):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_partitions(tmp_path / "splits.json")


def test_parts_may_be_called_otherwise_in_capitals(tmp_path: Path):
    (tmp_path / "splits.json").write_text(json.dumps({"a": [{"Test": ["x"], "VAL": ["y"]}]}))
    assert read_partitions(tmp_path / "splits.json") == {
        "a": [{"test": ["x"], "validation": ["y"]}]
    }
    assert part_of(" Train ") == "train"
    assert part_of("testing") is None


@pytest.mark.parametrize("words", [("Test", "Train"), ("TEST", "TRAIN"), ("test", "train")])
def test_capitals_do_not_matter_in_a_split(words: tuple[str, str], tmp_path: Path):
    disc_folder(tmp_path)
    lines = "".join(f"c{i},{words[int(i > 1)]}\n" for i in range(6))
    (tmp_path / "cases.csv").write_text(f"case,split\n{lines}")
    checked = check_folder(tmp_path)
    assert not checked.errors
    assert [n for n, row in checked.folder.about.items() if row["split"] == "test"] == ["c0", "c1"]


@pytest.mark.parametrize(
    "words", ["testing", "holdout", "external", "dev", "2", "held out", "", "validation"]
)
def test_a_split_in_other_words_is_an_error(words: str, tmp_path: Path):
    """Also one that holds no test, or not for all cases."""
    disc_folder(tmp_path)
    lines = "".join(f"c{i},{words if i < 2 else 'train'}\n" for i in range(6))
    (tmp_path / "cases.csv").write_text(f"case,split\n{lines}")
    assert "expected a column `split`" in kinds(tmp_path, "error")["partition"]


def test_a_split_in_a_column_of_another_name_is_an_error(tmp_path: Path):
    disc_folder(tmp_path)
    lines = "".join(f"c{i},{'Test' if i < 2 else 'Train'}\n" for i in range(6))
    (tmp_path / "cases.csv").write_text(f"case,Subset\n{lines}")
    assert "the column 'subset' reads like a split" in kinds(tmp_path, "error")["table"]


def test_columns_of_other_things_are_no_split():
    rows = [{"case": "a", "site": "external", "age": "5"}, {"case": "b", "site": "internal"}]
    assert column_like_split(rows) is None
    assert column_like_split([{"case": "a", "set": "train"}, {"case": "b", "set": "test"}]) == "set"
    assert column_like_split([{"case": "a", "set": "test"}, {"case": "b"}]) == "set"
    assert column_like_split([{"split": "x", "set": "test"}, {"set": "train"}]) is None


@given(
    content=st.dictionaries(st.text(), st.recursive(st.none() | st.text(), st.lists), max_size=3)
)
def test_no_content_ends_in_another_error(
    content: dict[str, object], tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("t") / "splits.json"
    path.write_text(json.dumps(content))
    try:
        read_partitions(path)
    except UserError as error:
        str(error).encode()
