"""The settings of cDAL."""

from __future__ import annotations

from cdal.recipes.recipe import CDALSettings


def test_the_default_keeps_every_ingredient():
    """The paper's three: a discriminator, its attention, and a latent; none is lost by default."""
    default = CDALSettings()
    assert default.attention == "normalised"
    assert default.adversarial > 0
    assert default.latent > 0
