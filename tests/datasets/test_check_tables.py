"""Parts that lack a class or all foreground, in given partitions and before a training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdal.datasets.check import check_folder
from cdal.datasets.check_tables import split_findings
from cdal.datasets.derive import folder_recipe
from cdal.datasets.partition import split_cases
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event
from cdal.training.train import train
from helpers.files import change, disc_folder, kinds
from helpers.recipes import small_recipe


@pytest.fixture
def rare(tmp_path: Path) -> Path:
    """Class 2 is in c0 only."""
    disc_folder(tmp_path / "data")
    change(tmp_path / "data", "masks/c0.png", lambda m: m + (np.arange(64) > 32) * m)
    return tmp_path / "data"


def given(root: Path, *test: int) -> None:
    lines = "".join(f"c{i},{'test' if i in test else 'train'}\n" for i in range(6))
    (root / "cases.csv").write_text(f"case,split\n{lines}")


def test_the_check_says_which_class_a_given_part_lacks(rare: Path):
    given(rare, 0, 1)
    message = kinds(rare, "warning")["partition"]
    assert "column `split`" in message
    assert "the part train holds no voxel of class 2" in message
    given(rare, 4, 5)
    assert "partition" not in kinds(rare, "warning")
    (rare / "splits.json").write_text(json.dumps({"mine": [{"test": ["c1"]}, {"test": ["c0"]}]}))
    message = kinds(rare, "warning")["partition"]
    assert "fold 1 of mine" in message
    assert "fold 0" not in message


def test_a_training_part_without_foreground_is_an_error(rare: Path):
    for i in range(1, 6):
        change(rare, f"masks/c{i}.png", lambda m: m * 0)
    given(rare, 0)
    assert "the part train holds no voxel of any foreground" in kinds(rare, "error")["partition"]


def test_classes_with_masks_of_their_own_are_looked_for_too(tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        (tmp_path / f"masks/c{i}.png").rename(tmp_path / f"masks/c{i}_{'a' if i else 'b'}.png")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "a": 10, "b": 20}}')
    given(tmp_path, 0)
    assert "train holds no voxel of b" in kinds(tmp_path, "warning")["partition"]


def settings_of(partition: str, fold: int = 0) -> DataSettings:
    return replace(small_recipe().data, partition=partition, folds=3, fold=fold)


def test_a_training_warns_or_stops(rare: Path, tmp_path: Path):
    recipe = replace(small_recipe(steps=1), data=settings_of("interleaved"))
    events: list[Event] = []
    train(recipe, rare, tmp_path / "run", "cpu", events.append)
    messages = [event.message for event in events if event.message]
    assert any("the part train holds no voxel of class 2" in message for message in messages)
    for i in range(1, 6):
        change(rare, f"masks/c{i}.png", lambda m: m * 0)
    with pytest.raises(UserError, match="the part train holds no voxel of any foreground"):
        train(recipe, rare, tmp_path / "other", "cpu")
    assert not (tmp_path / "other").exists()


def test_a_partition_that_does_not_keep_the_given_test_is_told(rare: Path):
    given(rare, 4, 5)
    checked = check_folder(rare)
    for partition, expected in (("interleaved", 1), ("given", 0)):
        settings = settings_of(partition)
        found = split_findings(
            checked.folder, checked.facts, split_cases(checked.folder, settings), settings
        )
        kept = [finding for finding in found if "keeps them for the test" in finding.message]
        assert len(kept) == expected
    assert folder_recipe(checked).recipe.data.partition == "given"
