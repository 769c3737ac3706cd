"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.runtime.files import replacing


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
