"""What a server checks before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.serve.models import Models
from cdal.serve.settings import Serving
from cdal.serve.site import Site


def test_a_file_is_no_folder_for_results(volume_model: Path, tmp_path: Path):
    """Nor can a folder be made in one."""
    (tmp_path / "file").write_text("mine")
    models = Models([volume_model], Sampling(votes=1), "cpu")
    for results in (tmp_path / "file", tmp_path / "file" / "results"):
        with pytest.raises(UserError, match=r"file is a file\. Give another --out"):
            Site(Serving(), models, tmp_path, results)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_a_killed_server_left_is_deleted(volume_model: Path, tmp_path: Path):
    """As its name says, which `replacing` gave; files of others stay."""
    results = tmp_path / "results"
    left = [results / name for name in (".cdal-left.json", ".cdal/tmp/.cdal-left", "mine.json")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    site = Site(Serving(), Models([volume_model], Sampling(votes=1), "cpu"), tmp_path, results)
    site.close()
    site.join()
    assert [path.exists() for path in left] == [False, False, True]
