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
