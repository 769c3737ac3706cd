"""Which code this is."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).parent


@cache
def revision() -> str:
    """The version, with the commit where this is a clone's code: `0.1.0 (ba51941a02)`, `-dirty` where files differ from it."""
    if not _git("ls-files", Path(__file__).name):  # installed, perhaps below a clone of something else
        return __version__
    commit = _git("describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")
    return f"{__version__} ({commit})" if commit else __version__


def _git(*words: str) -> str:
    """What git says of this folder; nothing where it is no clone, or there is no git."""
    try:
        said = subprocess.run(["git", "-C", str(_HERE), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""
