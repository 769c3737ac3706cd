"""The exception whose message is written for the user."""

from __future__ import annotations

from collections.abc import Sequence

from cdal.runtime.text import printable


class UserError(Exception):
    """The user's input cannot be used.

    The message says what was expected, what was found, and how to fix it.
    The command line prints the message without a traceback and exits with code 2.
    """

    def __str__(self) -> str:
        """Return the message; names of files in it cannot control a terminal."""
        return printable(super().__str__())


def first_few(names: Sequence[str]) -> str:
    """The first five names, and the number of the remaining ones."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
