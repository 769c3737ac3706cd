"""The version of the package and the commit of its code."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).parent


@cache
def revision() -> str:
    """The version, with the commit if the code runs from a clone: `0.1.0 (ba51941a02)`.

    The commit ends in `-dirty` if files differ from it.
    """
    # An installed package may be inside a clone of another repository, which does not track it.
    if not _git("ls-files", Path(__file__).name):
        return __version__
    commit = _git("describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    return f"{__version__} ({commit})" if commit else __version__


def _git(*words: str) -> str:
    """Output of a git command in this folder; empty without a clone or without git."""
    command = ["git", "-C", str(_HERE), *words]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
