"""The answer of `cdal doctor`."""

from __future__ import annotations

import getpass
import json
from importlib import metadata
from pathlib import Path

import pytest
import torch

from cdal.runtime import doctor


def requires(*lines: str):
    return lambda name: list(lines)


def test_versions_are_those_that_are_installed():
    versions = doctor.examine()["versions"]
    assert versions["torch"] == metadata.version("torch")
    assert versions["monai"] == metadata.version("monai")


def test_an_extra_lists_its_libraries_or_the_words_that_install_it(
    monkeypatch: pytest.MonkeyPatch,
):
    lines = requires(
        "numpy>=1.26",
        'no-such-library>=1; extra == "slides"',
        'safetensors[numpy]>=0.4; extra == "hub"',
        'ruff>=0.9; extra == "dev"',
    )
    monkeypatch.setattr(doctor.metadata, "requires", lines)
    values = doctor.examine()
    assert values["versions"] == {"numpy": metadata.version("numpy")}
    assert values["extras"] == {
        "slides": "missing no-such-library: pip install 'cdal[slides]'",
        "hub": f"safetensors {metadata.version('safetensors')}",
    }


def test_advice_names_what_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(doctor, "allowed_threads", lambda: 8)
    monkeypatch.setattr(doctor, "free_memory", lambda: 2**30)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (tmp_path / "version").touch()
    monkeypatch.setattr(doctor, "_DRIVER", tmp_path / "version")
    monkeypatch.setattr(doctor, "find_device", lambda name: torch.device("cpu"))
    text = " ".join(doctor.examine()["advice"])
    assert "3 of 8 threads" in text
    assert "4 GiB" in text
    assert "CUDA" in text


def test_a_machine_that_lacks_nothing_gets_no_advice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "allowed_threads", lambda: 2)
    monkeypatch.setattr(doctor, "thread_count", lambda: 2)
    monkeypatch.setattr(doctor, "free_memory", lambda: None)
    monkeypatch.setattr(doctor, "_DRIVER", Path("nowhere"))
    values = doctor.examine()
    assert values["advice"] == []
    assert values["memory"] == "unknown"


def test_nothing_private_is_told():
    text = json.dumps(doctor.examine())
    for private in (str(Path.home()), str(Path.cwd())):
        assert private == "/" or private not in text
    assert getpass.getuser() == "root" or getpass.getuser() not in text
