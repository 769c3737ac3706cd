"""Text that comes from the user's files, made safe for terminals and spreadsheets."""

from __future__ import annotations

import re
import unicodedata

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff\u2066-\u2069]")
"""Control characters except tab and line feed, lone surrogates, and changes of direction."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Begin of a cell that a spreadsheet would compute; `'` marks a cell as text."""


def printable(text: str) -> str:
    """Return the text with the code in place of each character that a terminal would obey.

    Lone surrogates, which file names that are not UTF-8 contain, cannot be printed at all and are
    replaced likewise.
    """
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def composed(name: str) -> str:
    """Return a name with composed characters (NFC); macOS writes `ä` as `a` and an accent."""
    return unicodedata.normalize("NFC", name)


def is_plain(name: str) -> bool:
    """Whether a name is not empty and has no character that a terminal would obey."""
    return bool(name.strip()) and printable(name) == name and not set("\n\t") & set(name)


def text_cell(text: str) -> str:
    """Return the text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def cell_text(cell: str) -> str:
    """Return the text of a cell that `text_cell` made."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
