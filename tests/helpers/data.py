"""Where the real data are, and parts of them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("CDAL_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def real(name: str) -> Path:
    """The folder of a real set; the test is skipped if it is not there."""
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not in {SHARED} (set CDAL_TEST_DATA)")
    return folder


def part_of(source: Path, target: Path, names: Collection[str]) -> Path:
    """Links to the files of some cases, in folders as those of the source."""
    for path in source.rglob("*"):
        if path.name.split(".")[0] in names:
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return target
