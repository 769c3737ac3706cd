"""What all public sets share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.datasets.public import PUBLIC_SETS, prepare
from cdal.runtime.errors import UserError


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_a_source_without_the_files_is_refused_and_leaves_nothing(name: str, tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/readme.txt").write_text("x")
    for source, message in (
        (tmp_path / "in", "it holds readme.txt"),
        (tmp_path / "no", "no such folder or archive"),
    ):
        with pytest.raises(UserError, match=message):
            prepare(name, source, tmp_path / "out")
    (tmp_path / "in.zip").write_text("no archive")
    with pytest.raises(UserError, match="cannot be unpacked"):
        prepare(name, tmp_path / "in.zip", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "in.zip"]


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_what_is_there_is_kept(name: str, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty; nothing was changed"):
        prepare(name, tmp_path, tmp_path / "out")
    assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [
        ("mine.txt", "x")
    ]


def test_the_list_says_where_and_under_which_licence(capsys: pytest.CaptureFixture[str]):
    assert main(["data", "list", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown) == {"hippocampus", "monuseg", "cxr"}
    for entry in shown.values():
        assert all(entry[field] for field in ("where", "licence", "citation"))
    assert "non-commercial" in shown["monuseg"]["licence"]
    assert main(["data", "prepare", "monusag", "x", "y"]) == 2
    assert "Did you mean monuseg?" in capsys.readouterr().err
