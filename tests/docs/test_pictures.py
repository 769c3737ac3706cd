"""The pictures of the method: they are current, and show what sampling does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from cdal.inference.load import load
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import CDALSettings
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.cdal import Draws
from helpers.recipes import small_recipe
from helpers.segmenters import shake
from tools import pictures
from tools.architecture import architecture


def test_the_architecture_is_drawn_as_the_recipe_has_it():
    shown = pictures.FOLDER / "architecture.svg"
    assert shown.read_text(encoding="utf-8") == architecture(), "python -m tools.pictures"
    words = [node.text for node in ElementTree.fromstring(architecture()).iter() if node.text]
    assert {"16", "32", "64", "128", "15 votes"} <= set(words)
    settings = replace(CDALSettings(), channels=(6, 12, 24), votes=7)
    other = [node.text for node in ElementTree.fromstring(architecture(settings)).iter()]
    assert {"6", "12", "24", "7 votes"} <= set(other)
    assert "16" not in other


def test_a_chain_ends_where_sampling_ends():
    """One step needs no other noise than the first, so the label is that of `sample`."""
    recipe = small_recipe()
    recipe = replace(recipe, segmenter=replace(recipe.segmenter, sampling_timesteps=1))
    torch.manual_seed(0)
    segmenter = build_segmenter(recipe, 1, 2).eval()
    shake(segmenter)
    image = torch.randn(1, 1, 16, 16)
    (step,) = pictures.chain(segmenter, image, torch.Generator().manual_seed(3))
    assert step.t == 1
    assert step.noisy.shape == step.clean.shape == (1, 16, 16)

    rng = torch.Generator().manual_seed(3)
    noise = torch.randn(1, 16, 4, 4, generator=rng)
    z = torch.randn(1, segmenter.settings.latent, generator=rng)
    draws = Draws(segmenter.generator.see(noise)[None], z[None])
    with torch.no_grad():
        sampled = segmenter.segment(image, draws, None)[0, 0, 1]
    assert torch.allclose(sampled, torch.from_numpy(step.clean[0] + 1) / 2, atol=1e-6)


@pytest.mark.parametrize("name", ["diffusion.png", "votes.gif", "reliability.png"])
def test_pictures_are_small(name: str):
    assert 10_000 < (pictures.FOLDER / name).stat().st_size < 300_000


@pytest.mark.slow
def test_diffusion_and_votes_are_drawn_from_a_demonstration(
    trained: Path, phantoms: Path, tmp_path: Path
):
    (tmp_path / "run").symlink_to(trained)
    (tmp_path / "phantoms").symlink_to(phantoms)
    assert load(tmp_path / "run", Sampling(votes=2)).header.data["test"]
    assert len(pictures.diffusion(tmp_path).axes) == 10
    assert pictures.votes(tmp_path).startswith(b"GIF8")
