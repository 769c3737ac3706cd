"""Names of files: accents, capitals, dots, links, and files that operating systems add."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.layouts.files import MASK_WORDS, by_stem, owner
from cdal.runtime.errors import UserError
from helpers.layouts import FOLDERS, pair, pairs

NAMES = ("with space", "1.2.840.113", "a.b", "Größe", "図1", "p (1)", "x", "UPPER")


def test_names_of_any_kind_belong_together(tmp_path: Path):
    for i, name in enumerate(NAMES):
        pair(tmp_path / f"images/{name}.PNG", tmp_path / f"labels/{name}.png", i)
    checked = check_folder(tmp_path)
    assert not checked.errors
    assert [case.name for case in checked.folder.cases] == sorted(NAMES)


def test_accents_may_be_stored_in_two_ways(tmp_path: Path):
    apart, composed = (unicodedata.normalize(form, "Schädel") for form in ("NFD", "NFC"))
    assert apart != composed
    pair(tmp_path / f"images/{apart}.png", tmp_path / f"labels/{composed}.png", 0)
    (tmp_path / "cases.csv").write_text(f"case,patient\n{apart},p1\n", encoding="utf-8")
    folder = open_folder(tmp_path)
    assert [case.name for case in folder.cases] == [composed]
    assert folder.about[composed]["patient"] == "p1"
    pair(tmp_path / f"images/{composed}.png", tmp_path / f"labels/{composed}.png", 1)
    with pytest.raises(UserError, match="the same name but for the suffix"):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", ["pairs", "flat", "Decathlon", "BIDS", "MONAI Label", "parts"])
def test_files_of_operating_systems_are_no_cases(name: str, tmp_path: Path):
    root = FOLDERS[name](tmp_path)
    for folder in [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]:
        for hidden in (".DS_Store", "._c0.png", "._c0.nii.gz", "Thumbs.db", "desktop.ini"):
            (folder / hidden).write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    checked = check_folder(root)
    assert len(checked.folder.cases) == 6
    assert [finding for finding in checked.findings if finding.level != "note"] == []


def test_links_are_followed_and_broken_ones_named(tmp_path: Path):
    pairs(tmp_path / "far")
    for name in ("images", "labels"):
        (tmp_path / "near" / name).mkdir(parents=True)
        for path in (tmp_path / "far" / name).iterdir():
            (tmp_path / "near" / name / path.name).symlink_to(path)
    assert len(open_folder(tmp_path / "near").cases) == 6
    (tmp_path / "far/images/c2.png").unlink()
    with pytest.raises(UserError, match=r"c2\.png: the link leads to .*which is not there"):
        open_folder(tmp_path / "near")
    (tmp_path / "near/images/c2.png").unlink()
    (tmp_path / "near/images/c2.png").symlink_to("c2.png")
    with pytest.raises(UserError, match=r"c2\.png: the link leads to c2\.png"):
        open_folder(tmp_path / "near")


def test_names_of_255_bytes_are_read(tmp_path: Path):
    name = "ä" * 125 + "x"
    pair(tmp_path / f"images/{name}.png", tmp_path / f"labels/{name}.png", 0)
    assert not check_folder(tmp_path).errors


@pytest.mark.parametrize("name", [b"a\x1b[31m.png", b"a\nb.png", b"a\xff.png", b" .png"])
def test_names_that_a_terminal_would_obey_are_refused(name: bytes, tmp_path: Path):
    pairs(tmp_path)
    content = (tmp_path / "images/c0.png").read_bytes()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "images") + b"/" + name)).write_bytes(content)
    except OSError:
        pytest.skip("the file system takes only UTF-8")
    (error,) = check_folder(tmp_path).errors
    assert "Rename the file" in error.message
    assert "\x1b" not in error.message
    error.message.encode()


def test_double_names_are_problems(tmp_path: Path):
    pairs(tmp_path)
    (tmp_path / "images/c0.bmp").write_bytes(b"x")
    problems: list[str] = []
    assert set(by_stem(tmp_path / "images", problems)) == {f"c{i}" for i in range(6)}
    assert len(problems) == 1
    assert "c0.bmp" in problems[0]


@given(
    name=st.text("ab_-.", min_size=1, max_size=6),
    word=st.sampled_from(sorted(MASK_WORDS)),
    cut=st.sampled_from("_-."),
)
def test_a_mask_belongs_to_the_image_whose_name_it_begins_with(name: str, word: str, cut: str):
    assert owner(f"{name}{cut}{word}", {name, "other"}) == (name, word)
    assert owner(name, {name}) == (name, "")
    assert owner(f"{name}x", {f"{name}y"})[0] is None


def test_the_number_after_a_dot_is_no_class():
    """Names of DICOM files are numbers with dots."""
    assert owner("1.2.840", {"1.2"}) == (None, "")
    assert owner("a_b_liver", {"a", "a_b"}) == ("a_b", "liver")
