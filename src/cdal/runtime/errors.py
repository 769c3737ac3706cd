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


def listed(names: Sequence[str], most: int = 20) -> str:
    """All names, as the end of a message; more than a few have lines of their own, up to `most`."""
    if len(names) <= 5:
        return f" {', '.join(names)}."
    more = [f"... and {len(names) - most} others"] if len(names) > most else []
    return "".join(f"\n  {line}" for line in (*names[:most], *more))


def first_few(names: Sequence[str]) -> str:
    """The first five names, and the number of the remaining ones."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
