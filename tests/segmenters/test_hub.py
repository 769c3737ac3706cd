"""Models of the hub: their names, and what is downloaded from a stand-in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import cdal
from cdal.recipes.baselines import OwnSettings
from cdal.runtime.errors import UserError
from cdal.segmenters import hub as hub_module
from cdal.segmenters.find_models import find_model, find_models, short_name
from cdal.segmenters.hub import HubName, is_hub_name, name_of, parse_name, parse_repository
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.hub import Hub
from helpers.recipes import small_recipe


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf://a/b", HubName("a", "b")),
        ("hf://Some-One/nuclei.v2@v1.0", HubName("Some-One", "nuclei.v2", "v1.0")),
        ("hf://a/b@refs/pr/3", HubName("a", "b", "refs/pr/3")),
    ],
)
def test_a_name_has_its_parts(name: str, parts: HubName):
    assert is_hub_name(name)
    assert parse_name(name) == parts
    assert str(parts) == name
    assert parse_name(Path(name)) == parts  # Python folds the slashes of a path


@pytest.mark.parametrize(
    "name",
    [
        "hf:a/b",
        "https://huggingface.co/a/b",
        "hf://a",
        "hf://a/b/c",
        "hf://../b",
        "hf://a/..",
        "hf://a/b@../../main",
        "hf://a/b@main/../x",
        "hf://-a/b",
        "hf://a/b--c",
        "hf://a/b?x=1",
        "hf://a/b@",
        "hf://a/b\n",
        "hf://user:word@host/b",
        f"hf://a/{'b' * 200}",
    ],
)
def test_another_name_is_refused(name: str):
    with pytest.raises(UserError, match="OWNER/NAME"):
        find_model(name)


def test_a_repository_is_written_with_or_without_hf():
    assert parse_repository("a/b") == parse_repository("hf://a/b") == HubName("a", "b")
    with pytest.raises(UserError, match="--revision main"):
        parse_repository("a/b@main")


def test_ordinary_names_are_not_those_of_the_hub(tmp_path: Path):
    for name in ("hippocampus", "a/b", str(tmp_path / "hf" / "x"), "runs/hf"):
        assert not is_hub_name(name)
    assert name_of(tmp_path / "run" / "model.safetensors") == ""


def test_the_extra_is_named_if_it_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'pip install "cdal\[hub\]"'):
        find_model("hf://a/b")


@pytest.fixture
def named(hub: Hub, trained: Path) -> Iterator[tuple[Hub, str]]:
    """A stand-in with a model, its card and a pickle; and the model's commit."""
    files = {
        "model.safetensors": (trained / "model.safetensors").read_bytes(),
        "README.md": b"# a card",
        "model.pt": b"a pickle",
    }
    yield hub, hub.commit("some/one", "main", files)


def test_only_the_model_is_downloaded_and_its_commit_is_known(
    named: tuple[Hub, str], trained: Path
):
    hub, commit = named
    (path,) = find_models("hf://some/one")
    assert path.read_bytes() == (trained / "model.safetensors").read_bytes()
    assert not [asked for asked in hub.asked if not asked.endswith("model.safetensors")]
    assert short_name(path) == "one"
    assert cdal.load("hf://some/one").name == f"hf://some/one@{commit}"


def test_predictions_name_the_commit(named: tuple[Hub, str], tmp_path: Path):
    picture = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    np.save(tmp_path / "a.npy", picture)
    written = cdal.predict("hf://some/one", [tmp_path / "a.npy"], tmp_path / "out")
    assert written.done[0]["model"] == f"hf://some/one@{named[1]}"


def test_a_model_in_the_cache_needs_no_network(
    named: tuple[Hub, str], monkeypatch: pytest.MonkeyPatch
):
    hub, commit = named
    path = find_model("hf://some/one")
    hub.asked.clear()
    assert find_model(f"hf://some/one@{commit}") == path
    assert find_model("hf://some/one", download=False) == path
    assert hub.asked == []
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # no one listens there
    assert find_model("hf://some/one") == path
    with pytest.raises(UserError, match="cannot be reached"):
        find_model("hf://some/other")
    with pytest.raises(UserError, match="has not been downloaded"):
        find_model("hf://some/other", download=False)


def test_a_branch_is_asked_for_anew(named: tuple[Hub, str], trained: Path, tmp_path: Path):
    hub, commit = named
    first = find_model("hf://some/one")
    other = {"model.safetensors": _other_model(tmp_path).read_bytes()}
    newer = hub.commit("some/one", "main", other)
    second = find_model("hf://some/one")
    assert (first.parent.name, second.parent.name) == (commit, newer)
    assert find_model(f"hf://some/one@{commit}").read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hf://no/body", "no such repository"),
        ("hf://some/one@v9", "no such revision"),
        ("hf://some/bare", "holds no model.safetensors"),
        ("hf://some/text", "is no model file"),
    ],
)
def test_what_the_hub_does_not_give_is_explained(named: tuple[Hub, str], name: str, says: str):
    hub, _ = named
    hub.commit("some/bare", "main", {"README.md": b""})
    hub.commit("some/text", "main", {"model.safetensors": b"text"})
    with pytest.raises(UserError, match=says):
        find_model(name)


def test_a_model_that_is_too_large_is_not_downloaded(
    named: tuple[Hub, str], monkeypatch: pytest.MonkeyPatch
):
    hub, _ = named
    hub.pretended = hub_module.MOST_BYTES + 1
    with pytest.raises(UserError, match="the most are"):
        find_model("hf://some/one")
    assert not [asked for asked in hub.asked if asked.startswith("GET")]


def test_a_model_that_names_code_is_refused(hub: Hub, tmp_path: Path):
    own = OwnSettings(name="this.Network")
    recipe = replace(small_recipe(), segmenter=own)
    path = tmp_path / "own.safetensors"
    save_model(path, {"w": torch.zeros(1)}, ModelHeader(recipe, ("background", "a"), 1))
    hub.commit("some/own", "main", {"model.safetensors": path.read_bytes()})
    with pytest.raises(UserError, match=r"this\.Network"):
        find_model("hf://some/own")
    assert "this" not in sys.modules


def _other_model(folder: Path) -> Path:
    path = folder / "other.safetensors"
    save_model(path, {"w": torch.ones(3)}, ModelHeader(small_recipe(), ("background", "a"), 1))
    return path
