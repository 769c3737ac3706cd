"""Which code made a result: told by git's own word, or not at all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import cdal
from cdal.runtime import version

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


def _git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The revision if the package stood in a folder."""
    (tmp_path / "version.py").touch()

    def of_folder() -> str:
        monkeypatch.setattr(version, "_HERE", tmp_path)
        return version.revision.__wrapped__()

    return of_folder


def test_a_clone_tells_its_commit_and_whether_files_differ(told, tmp_path: Path):
    _git(tmp_path, "init")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    commit = _git(tmp_path, "rev-parse", "--short=10", "HEAD")
    _git(tmp_path, "tag", "-a", "v9", "-m", "not the commit")
    assert told() == f"{cdal.__version__} ({commit})"
    (tmp_path / "version.py").write_text("changed")
    assert told() == f"{cdal.__version__} ({commit}-dirty)"


def test_an_installed_package_below_another_clone_does_not_tell_that_ones(told, tmp_path: Path):
    assert told() == cdal.__version__
    _git(tmp_path, "init")
    _git(tmp_path, "commit", "--allow-empty", "-m", "of something else")
    assert told() == cdal.__version__


def test_without_git_there_is_the_version(told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told() == cdal.__version__
