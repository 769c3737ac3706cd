"""The one exception that speaks to the user."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """The user's input cannot be used: the message says what was expected, what came, and the remedy.

    The command line prints the message without a traceback and exits with code 2.
    """


def some(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
