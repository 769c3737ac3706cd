"""How a model is found, and names that stand for several models."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdal.datasets.check import check_folder
from cdal.experiments.jobs import plan
from cdal.runtime.errors import UserError
from cdal.segmenters.find_models import find_model, find_models, shipped_models
from helpers.ensembles import run
from helpers.recipes import small_recipe


def test_one_model_is_found_as_before(trained: Path):
    for name in (trained, trained / "model.safetensors", str(trained), "hippocampus"):
        assert find_models(name) == (find_model(name),)
    with pytest.raises(UserError, match="no model unheard-of"):
        find_models("unheard-of")


def test_the_models_of_all_folds_and_seeds_in_their_order(phantoms: Path, tmp_path: Path):
    """In folders as a cross-validation names them."""
    data = check_folder(phantoms)
    jobs = plan({"my system": small_recipe()}, data, tmp_path, [2, 0], None, [0, 10, 9])
    for job in reversed(jobs):
        run(job.folder)
    (tmp_path / "comparison.md").touch()
    (tmp_path / "my-system" / "notes").mkdir()
    expected = tuple(
        tmp_path / "my-system" / f"fold-{fold}{seed}" / "model.safetensors"
        for fold in (0, 2)
        for seed in ("", "-seed-9", "-seed-10")
    )
    assert find_models(tmp_path) == find_models(tmp_path / "my-system") == expected


def test_of_several_systems_one_is_asked_for(tmp_path: Path):
    for system in ("unet", "cdal"):
        run(tmp_path / system / "fold-0")
    with pytest.raises(UserError, match=r"several systems: cdal, unet\. Name .*cdal\."):
        find_models(tmp_path)
    assert find_models(tmp_path / "unet") == (tmp_path / "unet/fold-0/model.safetensors",)


def test_runs_that_are_not_finished_are_refused(tmp_path: Path):
    run(tmp_path / "cdal" / "fold-0")
    unfinished = run(tmp_path / "cdal" / "fold-1", finished=False)
    with pytest.raises(UserError, match=r"fold-1: its training is not finished"):
        find_models(tmp_path)
    (unfinished / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"fold-1: its training is not finished"):
        find_models(tmp_path)


def test_other_folders_hold_no_model(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path, tmp_path / "empty"):
        with pytest.raises(UserError, match="the folder of a cross-validation"):
            find_models(folder)


def test_a_model_is_found_by_file_folder_or_name(trained: Path, tmp_path: Path):
    assert (
        find_model(trained)
        == find_model(trained / "model.safetensors")
        == trained / "model.safetensors"
    )
    with pytest.raises(UserError, match="Shipped: "):
        find_model("unheard-of")
    with pytest.raises(UserError, match="holds no model"):
        find_model(tmp_path)


def test_the_shipped_models_are_small_and_have_cards():
    shipped = shipped_models()
    assert {"hippocampus", "cxr", "monuseg"} <= set(shipped)
    for path in shipped.values():
        assert path.stat().st_size < 25e6
        assert path.with_suffix(".md").is_file()
