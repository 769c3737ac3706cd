"""Text of the user's files in terminals and spreadsheets."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdal.runtime.errors import UserError
from cdal.runtime.text import cell_text, composed, is_plain, printable, text_cell


@given(st.text(st.characters() | st.sampled_from("\x1b\ud800\u202e")))
def test_nothing_that_a_terminal_obeys_is_left(text: str):
    shown = printable(text)
    shown.encode()
    assert not [
        character
        for character in shown
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
    ]
    assert "\u202e" not in shown
    assert printable(shown) == shown


def test_messages_are_shown_with_the_code_of_a_character():
    assert str(UserError("a\x1b[31m\udcff")) == "a\\x1b[31m\\udcff"
    assert printable("Größe 図\n\t[/red]") == "Größe 図\n\t[/red]"


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a b", True), ("", False), (" ", False), ("a\n", False), ("\x1b", False), ("é", True)],
)
def test_names_are_plain_or_not(name: str, plain: bool):
    assert is_plain(name) is plain


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0") | st.sampled_from("'=+-@"))
)
def test_cells_are_no_formulas_and_come_back(text: str):
    cell = text_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t"))
    assert cell_text(cell) == text
    csv.writer(table := io.StringIO()).writerow([cell])
    assert cell_text(next(csv.reader(io.StringIO(table.getvalue())))[0] if cell else "") == text


def test_accents_are_composed():
    assert composed("a\u0308") == "ä"
