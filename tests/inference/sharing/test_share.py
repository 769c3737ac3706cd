"""Exports as folders: whole, and never in the place of what someone else wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cdal.cli import main
from cdal.inference.sharing import share as share_module
from cdal.inference.sharing.card import open_shared
from cdal.inference.sharing.hub import push, write_hub
from cdal.inference.sharing.share import share
from cdal.recipes.baselines import OwnSettings
from cdal.recipes.ensemble import EnsembleSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.files import full_disk
from helpers.recipes import small_recipe


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_model(path, {"w": torch.zeros(1)}, ModelHeader(small_recipe(), ("background", "a"), 1))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_export_takes_the_place_of_an_earlier_one(model: Path, tmp_path: Path):
    """The model beside it has changed meanwhile; no trace of the way is left."""
    out = tmp_path / "out"
    (out / "small-hub").mkdir(parents=True)
    folder = share(model, "hub", out)
    assert set(content(folder)) == {"README.md", "model.safetensors"}
    first = content(folder)
    assert share(model, "hub", out) == folder
    assert content(folder) == first
    model.with_suffix(".md").write_text("# Another card")
    share(model, "hub", out)
    assert content(folder)["README.md"].startswith(b"---\n")
    assert b"# Another card" in content(folder)["README.md"]
    assert content(folder)["model.safetensors"] == model.read_bytes()
    assert [path.name for path in out.iterdir()] == ["small-hub"]


def _own_card(folder: Path) -> None:
    (folder / "README.md").write_text("# Mine")


def _changed_card(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("research", "care"))


def _more(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def _less(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("change", [_own_card, _changed_card, _more, _less])
def test_what_someone_changed_or_added_is_kept(
    change: Callable[[Path], None], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = share(model, "hub", tmp_path / "out")
    change(folder)
    before = content(folder)
    assert main(["export", str(model), "--to", "hub", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"{folder} is there" in told and "give another --out" in told
    assert content(folder) == before


def test_a_strangers_folder_or_file_is_kept(model: Path, tmp_path: Path):
    (tmp_path / "small-hub").mkdir()
    _own_card(tmp_path / "small-hub")
    (tmp_path / "small-bundle").write_text("mine")
    with pytest.raises(UserError, match="it is kept"):
        share(model, "hub", tmp_path)
    with pytest.raises(UserError, match="it is kept"):
        share(model, "bundle", tmp_path)
    assert content(tmp_path / "small-hub") == {"README.md": b"# Mine"}


def test_an_export_that_fails_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = share(model, "hub", tmp_path / "out")
    before = content(folder)

    def broken(shared: object, to: str, made: Path, example: object) -> None:
        made.mkdir()
        (made / "README.md").write_text("half")
        raise UserError("it cannot be written")

    monkeypatch.setattr(share_module, "_write", broken)
    with pytest.raises(UserError, match="cannot be written"):
        share(model, "hub", tmp_path / "out")
    assert content(folder) == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small-hub"]
    with pytest.raises(UserError, match="cannot be written"):
        share(model, "hub", tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_an_export_that_cannot_be_moved_in_gives_the_place_back(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = share(model, "hub", tmp_path / "out")
    before, rename = content(folder), Path.rename

    def refused(self: Path, target: Path) -> Path:
        if target == folder and self.name == folder.name:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        share(model, "hub", tmp_path / "out")
    assert content(folder) == before


def test_a_full_disk_is_told_of_the_file_that_was_asked_for(model: Path, tmp_path: Path):
    with full_disk(1), pytest.raises(UserError) as told:
        share(model, "hub", tmp_path / "out")
    asked = tmp_path / "out/small-hub/model.safetensors"
    assert str(told.value).startswith(f"{asked} cannot be written: ")


def test_a_graph_takes_no_strangers_place(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "out").mkdir()
    about = tmp_path / "out/small.json"
    about.write_text('{"header": "mine"}')
    assert main(["export", str(model), "--to", "onnx", "--out", str(about.parent)]) == 2
    assert f"{about} is there and was not written by an export" in capsys.readouterr().err
    assert about.read_text() == '{"header": "mine"}'
    # Beside a graph of our own, too, it is the JSON file that is a stranger's.
    (tmp_path / "out/small.onnx").write_bytes(b"ours")
    assert main(["export", str(model), "--to", "onnx", "--out", str(about.parent)]) == 2
    assert f"{about} is there and was not written by an export" in capsys.readouterr().err
    about.unlink()
    assert main(["export", str(model), "--to", "onnx", "--out", str(about.parent)]) == 2
    assert "small.onnx is there and was not written by an export" in capsys.readouterr().err


def test_the_card_of_a_network_outside_cdal_says_how_it_is_had(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """hf:// is refused for it, see tests/segmenters/test_hub.py."""
    recipe = replace(small_recipe(), segmenter=OwnSettings(name="theirs.Net"))
    save_model(model, {"w": torch.zeros(1)}, ModelHeader(recipe, ("background", "a"), 1))
    pushed = push(model, "some/own", dry_run=True)
    assert pushed.networks == ["theirs.Net"]
    assert "cdal predict hf://" not in pushed.card and 'cdal.load("hf://' not in pushed.card
    assert "    hf download some/own model.safetensors --local-dir model\n" in pushed.card
    assert "--trust-own-network" in pushed.card
    assert "    cdal.trust_own_network('theirs.Net')\n" in pushed.card
    for words in (
        ["push", str(model), "some/own", "--dry-run"],
        ["export", str(model), "--to=hub"],
    ):
        assert main([*words, *(["--out", str(tmp_path)] if words[0] == "export" else [])]) == 0
        assert "theirs.Net" in capsys.readouterr().err


def test_members_of_an_ensemble_may_be_networks_outside_cdal(model: Path, tmp_path: Path):
    own = OwnSettings(name="theirs.Net")
    both = EnsembleSettings(name="ensemble of 2", members=(small_recipe().segmenter, own))
    header = ModelHeader(replace(small_recipe(), segmenter=both), ("background", "a"), 1)
    shared = replace(open_shared(model), header=header)
    assert shared.networks == ["theirs.Net"]
    assert "hf download" in write_hub(shared, tmp_path / "hub")[1].read_text()


def test_the_first_line_of_a_block_is_code_too(model: Path, tmp_path: Path):
    """Four spaces before each line make it code."""
    card = (share(model, "hub", tmp_path) / "README.md").read_text().splitlines()
    block = card[card.index("## Use") + 2 :][:2]
    assert block == [
        '    pip install "cdal[hub]"',
        "    cdal predict hf://OWNER/small IMAGE --out results",
    ]
