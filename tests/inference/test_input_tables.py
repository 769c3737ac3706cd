"""Tables that list the inputs of a prediction."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cdal.inference.input_tables import count_rows, rows_of
from cdal.inference.inputs import Input, Lister, Refused, about_how_many
from cdal.runtime.errors import UserError
from helpers.files import picture


def table(folder: Path, text: str, name: str = "list.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_rows_are_images_with_names_of_their_own(tmp_path: Path):
    """Paths are relative to the table; rows that are of no use are told by number."""
    picture(tmp_path / "a" / "x.png", np.zeros((4, 4), np.uint8))
    picture(tmp_path / "b" / "x.png", np.zeros((4, 4), np.uint8))
    listed = table(
        tmp_path,
        "\ufeffpatient,path,name\n7,a/x.png,\n8,b/x.png,other\n9,,third\n"
        f"9,{tmp_path / 'a'},whole\n9,a/x.png,../x\n9,gone.png,\n9,b,=b\n",
    )
    found = list(Lister()([listed]))
    images = [(entry.path, entry.name) for entry in found if isinstance(entry, Input)]
    assert images == [
        (tmp_path / "a/x.png", "x"),
        (tmp_path / "b/x.png", "other"),
        (tmp_path / "a/x.png", "whole"),
        (tmp_path / "b/x.png", "=b"),
    ]
    refused = [entry for entry in found if isinstance(entry, Refused)]
    assert [entry.message for entry in refused] == [
        f"line 4 of {listed} has no path.",
        f"line 6 of {listed}: '../x' is no name for results. Expected one without / and \\.",
        f"{tmp_path / 'gone.png'}: no such file.",
    ]
    assert about_how_many([listed]) == 7


def test_a_table_has_tabs_if_its_name_says_so(tmp_path: Path):
    listed = table(tmp_path, "name\tpath\nx, y\ta.png\n", "list.tsv")
    assert [(row.path, row.name) for row in rows_of(listed)] == [("a.png", "x, y")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", 'name;path;"sites"\nx;"a;, b.png";2\n'),
        ("list.csv", "name\tpath\nx\ta;, b.png\n"),
        ("list.tsv", 'name,path\nx,"a;, b.png"\n'),
        ("list.csv", 'Name ; PATH\nx;"a;, b.png";\n'),
    ],
)
def test_columns_may_be_separated_by_other_signs(name: str, text: str, tmp_path: Path):
    """As programs write them where the comma is in numbers; the heading tells."""
    listed = table(tmp_path, f"\ufeff{text}", name)
    assert [(row.path, row.name) for row in rows_of(listed)] == [("a;, b.png", "x")]


def test_a_row_that_names_no_image_says_why(tmp_path: Path):
    picture(tmp_path / "x.png", np.zeros((4, 4), np.uint8))
    listed = table(tmp_path, 'path\nx.png\nlist.csv\n"x\n.png"\n,\n')
    image, *refused = Lister()([listed])
    assert isinstance(image, Input)
    assert [entry.message for entry in refused if isinstance(entry, Refused)] == [
        f"line 3 of {listed} names the table itself. Expected the path of an image.",
        f"line 4 of {listed}: expected the path of an image, in one line; it is 'x\\n.png'. Is a "
        "quotation mark missing?",
        f"line 6 of {listed} has no path.",
    ]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ('x.png\n"x.png\nx.png\n', "lines 3 to 4"),
        ('x.png\n"x.png', "line 3"),
        ('x.png\n"x.png\n"x.png"\n', "lines 3 to 4"),
        ('x.png\n"' + "x.png\n" * 30_000, "lines 3 to "),
    ],
)
def test_a_quotation_mark_that_is_not_closed_is_told_with_its_line(
    rows: str, lines: str, tmp_path: Path
):
    """What stands before it is segmented."""
    picture(tmp_path / "x.png", np.zeros((4, 4), np.uint8))
    listed = table(tmp_path, f"path\n{rows}")
    image, refused = Lister()([listed])
    assert isinstance(image, Input) and isinstance(refused, Refused)
    assert refused.message.startswith(f"{listed}, {lines}")
    assert "expected quotation marks in pairs" in refused.message


def test_lines_are_those_that_an_editor_shows(tmp_path: Path):
    """The heading is the first; cells with line breaks and empty lines count, too."""
    listed = table(tmp_path, 'path,name\na.png,a\n\n"b\n.png",b\nc.png,c\n')
    assert [row.place for row in rows_of(listed)] == ["line 2", "line 4", "line 6"]


def test_a_path_with_a_comma_is_not_cut(tmp_path: Path):
    """It would be the path of another image."""
    listed = table(tmp_path, "path,name\nimages,left.png,a\n")
    with pytest.raises(UserError, match=r"line 2: expected 2 cells.*it has 3.*quotation marks"):
        list(rows_of(listed))


@pytest.mark.parametrize("column", ["path", "name"])
def test_a_column_that_occurs_twice_is_refused(column: str, tmp_path: Path):
    listed = table(tmp_path, f"path,name,{column}\na,b,c\n")
    with pytest.raises(UserError, match=f"expected each column once; '{column}' occurs twice"):
        list(rows_of(listed))


@pytest.mark.parametrize("text", ["path\n", "path,name\n\n", "path"])
def test_a_table_without_rows_lists_no_image(text: str, tmp_path: Path):
    (refused,) = Lister()([table(tmp_path, text)])
    assert isinstance(refused, Refused)
    assert "lists no image: expected a row for each" in refused.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,label\na,b\n", "expected a column 'path'.*it has image, label"),
        (b"", "no columns"),
        (b"\npath\nx.png\n", "line 1: expected the names of the columns; it is empty"),
        (b"\xef\xbb\xbf ;;\r\npath\r\n", "line 1: expected the names of the columns; it is empty"),
        (b"path\n" + b"x" * 2**17 + b"x\n", "line 2: expected cells of up to 131072"),
        (b"path|name\na|b\n", r"it has path\|name. Commas, semicolons or tabs"),
        (b"path\n\xff\xfe\n", "expected text in UTF-8"),
    ],
)
def test_what_is_no_table_is_one_failed_input(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        list(rows_of(tmp_path / "list.csv"))
    picture(tmp_path / "x.png", np.zeros((4, 4), np.uint8))
    refused, image = Lister()([tmp_path / "list.csv", tmp_path / "x.png"])
    assert isinstance(refused, Refused)
    assert isinstance(image, Input)


@pytest.mark.skipif(not find_spec("pyarrow"), reason="PyArrow is not installed")
def test_parquet_is_a_table_too(tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    columns = {"size": [1, 2], "path": ["a.png", "b.png"], "name": [None, "c"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    rows = [(row.path, row.name, row.place) for row in rows_of(tmp_path / "list.parquet")]
    assert rows == [("a.png", "", "row 1"), ("b.png", "c", "row 2")]
    assert count_rows(tmp_path / "list.parquet") == 2
    (tmp_path / "list.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read as a table"):
        list(rows_of(tmp_path / "list.parquet"))


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "list.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"pip install 'cdal\[parquet\]'"):
        list(rows_of(tmp_path / "list.parquet"))
