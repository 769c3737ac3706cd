"""The files of the page: the scripts of others, and rules that ours keep."""

from __future__ import annotations

import re

import pytest

from helpers.vendor import FOLDER, listed, sha256

WEB = FOLDER.parent
OURS = sorted(path for path in WEB.iterdir() if path.suffix in (".js", ".css", ".html"))
SCRIPTS = [path for path in OURS if path.suffix == ".js"]


def test_the_scripts_of_others_are_those_that_are_listed():
    rows = listed()
    assert {row["file"]: row["sha256"] for row in rows} == {
        path.name: sha256(path.read_bytes()) for path in FOLDER.glob("*.js")
    }
    notice = (FOLDER / "NOTICE.txt").read_text(encoding="utf-8")
    assert all(f"{row['file']}: " in notice for row in rows)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_our_files_are_small_and_name_no_other_host(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400
    assert [line for line in lines if len(line) > 100] == []
    hosts = re.findall(r"https?://[\w.]+", "\n".join(lines))
    assert set(hosts) <= {"http://www.w3.org"}  # the name of SVG


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_text_never_becomes_markup_or_code(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_imports_and_ids_are_there(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"(?:from|import\() ?'\./([\w./-]+)'", text):
        assert (WEB / name).is_file()
    page = (WEB / "index.html").read_text(encoding="utf-8")
    for name in re.findall(r"byId\('([\w-]+)'\)", text):
        assert f'id="{name}"' in page
