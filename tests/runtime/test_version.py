"""Which code made a result: by git's own word, or not at all."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from cdal.runtime import version

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")

Revision = Callable[[], str]


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def revision(tmp_path: Path) -> Revision:
    """The revision if the package stood in another folder."""
    shutil.copyfile(version.__file__, tmp_path / "version.py")

    def of_folder() -> str:
        spec = spec_from_file_location("version", tmp_path / "version.py")
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.revision()

    return of_folder


def test_a_clone_shows_its_commit_and_whether_files_differ(revision: Revision, tmp_path: Path):
    git(tmp_path, "init")
    git(tmp_path, "add", "version.py")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "--short=10", "HEAD")
    git(tmp_path, "tag", "-a", "v9", "-m", "not the commit")
    assert revision() == f"{version.__version__} ({commit})"
    with (tmp_path / "version.py").open("a") as file:
        file.write("# changed\n")
    assert revision() == f"{version.__version__} ({commit}-dirty)"


def test_an_installed_package_below_another_clone_does_not_show_its_commit(
    revision: Revision, tmp_path: Path
):
    assert revision() == version.__version__
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "of something else")
    assert revision() == version.__version__


def test_without_git_there_is_the_version(
    revision: Revision, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision() == version.__version__
