"""The parser of the command line, whose messages about a value are for people."""

from __future__ import annotations

import re
from typing import NoReturn

from jsonargparse import ArgumentParser

_VALUE = re.compile(
    r'Parser key "(?P<key>[\w.]+)":\s+(?P<expected>.*?)(?:Given value|Got value): (?P<value>.*)',
    re.DOTALL,
)
"""What jsonargparse says of a value that is none of the types of its option."""

_KINDS = {"<class 'int'>": "a whole number", "<class 'float'>": "a number"}
_NAMES = re.compile(r"Literal\[(.*?)\]")


class Parser(ArgumentParser):
    """A parser that says of a wrong value which option has it, and what was expected."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with a message; see `ArgumentParser.error`."""
        super().error(plainly(message), ex)


def plainly(message: str) -> str:
    """A message of jsonargparse about a value in one sentence; other messages as they are."""
    match = _VALUE.fullmatch(message.strip())
    if match is None:
        return message
    wanted = [words for kind, words in _KINDS.items() if kind in match["expected"]]
    if names := _NAMES.search(match["expected"]):
        wanted = [f"one of {names[1]}".replace("'", "")]
    if not wanted:
        return message
    option = f"--{match['key'].replace('_', '-')}"
    return f"{option}: expected {wanted[-1]}; it is {match['value']!r:.200}."
