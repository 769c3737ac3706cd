"""A model is sent to a stand-in for the hub, and comes back as it was."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.inference.sharing.hub import push
from cdal.runtime.errors import UserError
from cdal.segmenters.find_models import find_model
from helpers.hub import TOKEN, Hub


def test_nothing_is_sent_in_a_dry_run(trained: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["push", str(trained), "some/one", "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "library_name: cdal" in printed.out
    assert "cdal predict hf://some/one" in printed.out
    assert "would send model.safetensors" in printed.out
    assert "names the 16 cases" in printed.err


@pytest.mark.parametrize("name", ["one", "a/b/c", "../x", "a/b@v1"])
def test_a_repository_that_cannot_be_is_refused(name: str, trained: Path):
    with pytest.raises(UserError):
        push(trained, name, dry_run=True)
    with pytest.raises(UserError):
        push(trained, "a/b", revision="../main", dry_run=True)


def test_what_is_sent_comes_back(
    hub: Hub,
    trained: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    assert main(["push", str(trained), "some/one"]) == 0
    printed = capsys.readouterr()
    name = printed.out.strip()
    content = (trained / "model.safetensors").read_bytes()
    assert hub.files["some/one"]["main"]["model.safetensors"] == content
    assert hub.files["some/one"]["main"]["README.md"].startswith(b"---\nlibrary_name: cdal")
    assert set(hub.files["some/one"]["main"]) == {"model.safetensors", "README.md"}
    assert find_model(name).read_bytes() == content
    assert find_model("hf://some/one").read_bytes() == content
    assert hub.tokens == {TOKEN}
    assert TOKEN not in printed.out + printed.err + caplog.text


def test_a_branch_of_a_private_repository(hub: Hub, trained: Path):
    pushed = push(trained, "hf://some/one", revision="v1", private=True)
    assert hub.private == {"some/one"}
    assert "main" not in hub.files["some/one"]
    assert find_model("hf://some/one@v1") == find_model(pushed.name)


@pytest.mark.parametrize(("offline", "says"), [(False, "network"), (True, "HF_HUB_OFFLINE is set")])
def test_without_a_network_it_is_said_so(
    offline: bool, says: str, hub: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    """No one listens at the port."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=f"cannot be sent to hf://some/one: the hub .*{says}") as no:
        push(trained, "some/one")
    assert "Try again later" not in str(no.value)


def test_a_refusal_is_explained_without_the_token(
    hub: Hub, trained: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.address}/nowhere")
    with pytest.raises(UserError, match="cannot be sent to hf://some/one") as refused:
        push(trained, "some/one")
    assert TOKEN not in str(refused.value)
    assert refused.value.__cause__ is None
