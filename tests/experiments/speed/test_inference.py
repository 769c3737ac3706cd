"""Systems measured on a task."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cdal.experiments.speed.inference import TASKS, Task, inference
from cdal.experiments.speed.machine import best_convolution
from cdal.experiments.speed.timing import gigaflops
from cdal.recipes import find_recipe, with_segmenter
from cdal.recipes.baselines import SegDiffSettings
from cdal.recipes.recipe import Recipe
from cdal.recipes.systems import SYSTEMS, System
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import parameters
from helpers.systems import sized


def test_systems_for_volumes_alone_are_left_out_of_pictures(
    this_machine: list, small_patches: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(
        TASKS, "tile", Task("a small tile", "monuseg", "monuseg-paper", (3, 32, 32), 2)
    )
    rows = inference("tile", ["unet-3d", "cdal-unet", "3d-ucaps"], this_machine, 1, "cpu")
    assert [row["system"] for row in rows] == ["cdal-unet"]


def test_systems_are_measured_on_a_task(
    this_machine: list, small_patches: None, monkeypatch: pytest.MonkeyPatch
):
    small = Task("a small volume", "hippocampus", "hippocampus-paper", (1, 16, 16, 16), 3)
    monkeypatch.setitem(TASKS, "volume", small)
    rows = {
        row["system"]: row
        for row in inference("volume", ["cdal", "cdal-unet"], this_machine, 1, "cpu")
    }
    assert {"cdal, 1 vote", "cdal, 5 votes", "cdal, 15 votes", "cdal-unet"} <= set(rows)
    unet, one, five = (rows[name] for name in ("cdal-unet", "cdal, 1 vote", "cdal, 5 votes"))
    assert (five["V"], five["T"], unet["V"], unet["T"]) == (5, 2, 1, 0)
    denoiser = (five["GFLOP"] - one["GFLOP"]) / 8
    assert one["GFLOP"] - 2 * denoiser == pytest.approx(
        unet["GFLOP"], rel=0.05
    )  # one encoder, V T denoisers
    assert denoiser < 0.05 * unet["GFLOP"]
    for row in rows.values():
        assert row["GFLOP/s"] == pytest.approx(row["GFLOP"] / row["seconds"])
        dims_best = best_convolution(this_machine, row["precision"], 3)
        assert row["of best convolution"] == pytest.approx(row["GFLOP/s"] / dims_best)


def cost_of(recipe: Recipe, images: int, channels: int, classes: int) -> tuple[float, float]:
    """GFLOP of one vote on so many images of the patch's size, and millions of parameters."""
    segmenter = build_segmenter(recipe, channels, classes).eval()
    image = torch.zeros(images, channels, *recipe.data.size)
    return gigaflops(lambda: segmenter.sample(image, 1, torch.Generator())), parameters(
        segmenter
    ) / 1e6


def test_what_would_take_hours_is_measured_in_part_and_multiplied(
    this_machine: list, small_patches: None, monkeypatch: pytest.MonkeyPatch
):
    """SegDiff, here with few features, in one step of its hundred on four slices; the paper's
    network in one window.
    """
    narrow = SegDiffSettings(features=32, multipliers=(1, 2), encoder_blocks=1)
    monkeypatch.setitem(SYSTEMS, "segdiff", System("few features", lambda: narrow))
    monkeypatch.setitem(
        TASKS,
        "volume",
        Task("a small volume", "hippocampus", "hippocampus-paper", (1, 16, 32, 16), 3),
    )
    (row,) = inference("volume", ["segdiff"], this_machine, 1, "cpu")
    assert row["of"] == "one vote, one step, 4 slices"
    assert (row["V"], row["T"]) == (5, 100)
    recipe = with_segmenter(sized("hippocampus", (16, 32, 16)), "segdiff")
    operations, millions = cost_of(
        replace(recipe, segmenter=replace(narrow, sampling_timesteps=1)), 4, 1, 3
    )
    assert row["GFLOP"] == pytest.approx(operations * 5 * 100 * 16 / 4)
    assert row["M parameters"] == millions

    picture = Task(
        "a small picture", "monuseg", "hippocampus-paper", (3, 64, 64), 2, ((3, 32, 32), 25)
    )
    monkeypatch.setitem(TASKS, "picture", picture)
    (row,) = inference("picture", ["cdal-paper"], this_machine, 1, "cpu")
    assert (row["of"], row["V"], row["T"]) == ("one vote, one window", 5, 2)
    settings = replace(find_recipe("hippocampus-paper").segmenter, sampling_timesteps=2)
    recipe = replace(with_segmenter(sized("monuseg", (32, 32)), "cdal-paper"), segmenter=settings)
    operations, millions = cost_of(recipe, 1, 3, 2)
    assert row["GFLOP"] == pytest.approx(operations * 5 * 25)
    assert row["M parameters"] == millions


def test_the_papers_networks_have_the_papers_size_on_each_task():
    assert {name: task.paper for name, task in TASKS.items()} == {
        "tile": "monuseg-paper",
        "picture": "monuseg-paper",
        "x-ray": "cxr-paper",
        "volume": "hippocampus-paper",
    }
