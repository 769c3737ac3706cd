"""The parser of the command line, whose messages about a value are for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

from jsonargparse import ArgumentParser

_VALUE = re.compile(
    r'Parser key "(?P<key>[\w.]+)":\s+(?P<expected>.*)(?:Given value|Got value): (?P<value>.*)',
    re.DOTALL,
)
"""What jsonargparse says of a value that is none of the types of its option."""

_MISSING = re.compile(r"(?P<begin>the following arguments are required: )(?P<keys>.*)")
_NO_ACTION = re.compile(
    r'expected "(?P<verb>\w+)\.action" to be one of \{(?P<names>.*)\}, but it was not provided\.'
)
"""What it says of words that are missing; keys are such as `check.data`."""

_KINDS = {"<class 'int'>": "a whole number", "<class 'float'>": "a number"}
_NAMES = re.compile(r"Literal\[(.*?)\]")


class Parser(ArgumentParser):
    """A parser that says of a wrong value which option has it, and what was expected."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with a message; see `ArgumentParser.error`."""
        told, verb = plainly(message), self
        if match := _MISSING.fullmatch(told.strip()):
            typed = [_typed(self, key) for key in match["keys"].split(", ")]
            verb = typed[0][0]
            told = f"{match['begin']}{', '.join(word for _, word in typed)}"
        elif match := _NO_ACTION.fullmatch(told.strip()):
            verb, _ = _typed(self, f"{match['verb']}.action")
            told = f"expected one of {match['names'].replace(',', ', ')} after {match['verb']}."
        if verb is not self:
            verb.error(told, ex)  # which prints its own usage
        super().error(told, ex)


def _typed(parser: Parser, key: str) -> tuple[Parser, str]:
    """The parser that a key belongs to, and how its value is typed.

    It is `DATA` for `check.data`, and `--data` for an option.
    """
    verb, _, rest = key.partition(".")
    for action in parser._actions:
        verbs = action.choices or {}
        if rest and isinstance(verbs, Mapping) and verb in verbs:
            return _typed(verbs[verb], rest)
        if action.dest == key:
            return parser, str(next(iter(action.option_strings), key.upper()))
    return parser, key


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
