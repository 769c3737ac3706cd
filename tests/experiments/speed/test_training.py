"""What a training step costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdal.experiments.speed import training as module
from cdal.experiments.speed.training import training
from helpers.recipes import small_recipe
from helpers.systems import sized


@pytest.mark.slow
def test_the_training_loop_says_where_its_time_goes(monkeypatch: pytest.MonkeyPatch):
    """On patches and with channels that are quick; the turns and the making of batches are parts of
    a step.
    """
    recipe = sized("hippocampus", (16, 32, 16))
    channels = small_recipe().segmenter.channels
    recipe = replace(recipe, segmenter=replace(recipe.segmenter, channels=channels))
    monkeypatch.setattr(module, "find_recipe", lambda name: recipe)
    (row,) = training(4, "cpu", ("cdal-unet",))
    assert (row["system"], row["batch"]) == ("cdal-unet", recipe.training.batch)
    assert row["samples/s"] > 0
    assert row["of turns"] > 0 and row["of batches"] > 0
    assert row["of turns"] + row["of batches"] < 1.0002  # both are rounded
