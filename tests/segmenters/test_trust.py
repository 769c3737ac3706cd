"""Model files that name a class outside the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cdal
from cdal.cli import main
from cdal.recipes.recipe import override
from cdal.recipes.variants import with_segmenter
from cdal.runtime.errors import UserError
from cdal.segmenters import trust
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from cdal.training.start import find_start
from helpers.systems import sized

MODULE = "module_of_a_stranger"
CODE = """
import pathlib, sys
import torch
pathlib.Path(__file__).with_name("it-ran").touch()
class Net(torch.nn.Conv2d):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, 1)
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model file that names a class in a module that can be imported here."""
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(trust, "_trusted", set())
    monkeypatch.delenv("CDAL_TRUST_OWN_NETWORK", raising=False)
    recipe = with_segmenter(sized("phantoms", (32, 32)), f"{MODULE}.Net")
    recipe = override(recipe, {"training.calibrate": False})
    weights = build_segmenter(recipe, 1, 2).players()["network"].state_dict()
    model = tmp_path / "model.safetensors"
    save_model(model, weights, ModelHeader(recipe, ("background", "lesion"), 1))
    del sys.modules[MODULE]
    (tmp_path / "it-ran").unlink()
    yield model
    sys.modules.pop(MODULE, None)


def test_nothing_is_imported_before_the_user_trusts_the_class(stranger: Path):
    for use in (cdal.load, find_start):
        with pytest.raises(UserError, match=rf"{MODULE}\.Net.*--trust-own-network"):
            use(stranger)
    assert not stranger.with_name("it-ran").exists()
    cdal.trust_own_network("another.Net")
    with pytest.raises(UserError, match="--trust-own-network"):
        cdal.load(stranger)
    cdal.trust_own_network(f"{MODULE}.Net")
    assert cdal.load(stranger).votes == 1
    assert stranger.with_name("it-ran").exists()


def test_the_option_trusts_what_the_command_loads(
    stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.setenv("CDAL_TRUST_OWN_NETWORK", "0")  # so that it is as before after the test
    words = ["ensemble", str(stranger), str(stranger), "--out", str(tmp_path / "two.safetensors")]
    assert main(words) == 2
    assert "--trust-own-network" in capsys.readouterr().err
    assert main([*words, "--trust-own-network"]) == 0


def test_what_the_model_is_can_be_asked_without_trust(
    stranger: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["info", str(stranger), "--json"]) == 0
    assert f"{MODULE}.Net" in capsys.readouterr().out
    assert not stranger.with_name("it-ran").exists()
