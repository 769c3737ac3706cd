"""What a run leaves on disk, and which runs may be resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cdal.datasets.folder import open_folder
from cdal.datasets.phantoms import write_phantoms
from cdal.recipes.recipe import load_recipe
from cdal.runtime.errors import UserError
from cdal.training.log import Log, read_log
from cdal.training.run_folder import claim, kept_split
from cdal.training.train import train
from helpers.recipes import small_recipe


def test_a_run_leaves_all_that_is_promised(trained: Path):
    assert {p.name for p in trained.iterdir()} == {
        ".lock",
        "cost.json",
        "recipe.yaml",
        "splits.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "model.safetensors",
        "learning_curve.png",
        "tensorboard",
    }
    assert load_recipe(trained / "recipe.yaml") == small_recipe()
    rows = read_log(trained)
    assert [row["step"] for row in rows if "generator" in row] == list(range(1, 21))
    assert [row["step"] for row in rows if "validation" in row] == [10, 20]
    assert [row["step"] for row in rows if "discriminator" in row] == [1, 5, 9, 13, 17]
    events = EventAccumulator(str(trained / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("validation")] == [10, 20]


def test_a_folder_of_another_recipe_is_refused(trained: Path, phantoms: Path):
    with pytest.raises(UserError, match=r"training.batch is 4 there and 5 now"):
        train(small_recipe(batch=5), phantoms, trained, "cpu")


def other_classes(data: Path) -> None:
    (data / "dataset.json").write_text('{"labels": {"background": 0, "spot": 1}}')


def other_validation(data: Path) -> None:
    images = sorted((data / "images").iterdir())
    images[1].write_bytes(images[0].read_bytes())  # interleaved: 1 is a validation case of fold 0


def one_case_less(data: Path) -> None:
    for path in data.rglob("phantom_0003*"):
        path.unlink()


@pytest.mark.parametrize("change", [other_classes, other_validation, one_case_less])
def test_a_run_is_not_resumed_with_other_data_or_classes(
    change: Callable[[Path], None], phantoms: Path, tmp_path: Path
):
    shutil.copytree(phantoms, tmp_path / "data")
    train(small_recipe(steps=5), tmp_path / "data", tmp_path / "run", "cpu")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    change(tmp_path / "data")
    with pytest.raises(
        UserError, match=r"holds a run on other data|of one patient or the same image"
    ):
        train(small_recipe(steps=5), tmp_path / "data", tmp_path / "run", "cpu")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_run_is_resumed_with_its_own_parts_when_cases_are_added(phantoms: Path, tmp_path: Path):
    shutil.copytree(phantoms, tmp_path / "data")
    train(small_recipe(steps=5), tmp_path / "data", tmp_path / "run", "cpu")
    kept = (tmp_path / "run" / "splits.json").read_text()
    for path in list((tmp_path / "data").rglob("phantom_0000*")):
        picture = np.asarray(Pillow.open(path))[::-1] if path.parent.name == "images" else None
        target = path.with_name(path.name.replace("phantom_0000", "phantom_00005"))
        Pillow.fromarray(picture.copy()).save(
            target
        ) if picture is not None else target.write_bytes(path.read_bytes())
    assert train(small_recipe(steps=5), tmp_path / "data", tmp_path / "run", "cpu").is_file()
    assert (tmp_path / "run" / "splits.json").read_text() == kept


def test_a_run_is_not_resumed_on_other_data(phantoms: Path, tmp_path: Path):
    other = write_phantoms(tmp_path / "other", 16, seed=9, size=32, raters=3)
    train(small_recipe(steps=2), phantoms, tmp_path / "run", "cpu")
    with pytest.raises(UserError, match="other data"):
        train(small_recipe(steps=2), other, tmp_path / "run", "cpu")


def test_a_folder_that_never_trained_may_begin_anew(phantoms: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        train(small_recipe(steps=2), tmp_path / "nowhere", tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()
    claim(tmp_path / "run", small_recipe(steps=2))
    assert train(small_recipe(steps=3), phantoms, tmp_path / "run", "cpu").is_file()


def test_a_model_that_is_gone_is_reported(phantoms: Path, tmp_path: Path):
    train(small_recipe(steps=2), phantoms, tmp_path / "run", "cpu").unlink()
    with pytest.raises(UserError, match="is gone"):
        train(small_recipe(steps=2), phantoms, tmp_path / "run", "cpu")


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]\n",
        '{"loss": 1}\n',
        '{"step": "a"}\n',
        '{"step": 1, "loss": "x"}\n',
        '{"step": 1, "loss": []}\n',
        "[" * 100_000 + "\n",
        '{"step": 1\n',
        "\udcff\n",
    ],
)
def test_a_damaged_log_is_refused(text: str, tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match="is damaged"):
        read_log(tmp_path)
    path.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "lo')
    assert [row["step"] for row in read_log(tmp_path)] == [1]


def test_the_log_needs_no_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cdal.training.log.find_spec", lambda name: None)
    log = Log(tmp_path, 0)
    log.add(1, {"loss": 0.5})
    log.close()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert read_log(tmp_path) == [{"step": 1, "loss": 0.5}]


def test_a_file_called_as_the_folder_of_tensorboard_is_refused(tmp_path: Path):
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(UserError, match="tensorboard is a file"):
        Log(tmp_path, 0)


@pytest.mark.parametrize(
    "parts",
    [
        {"train": [], "validation": [], "test": []},
        {"train": 3, "validation": [], "test": []},
        {"train": [[1]], "validation": [], "test": []},
        {"train": [1], "validation": [], "test": []},
        {"train": "abc", "validation": [], "test": []},
        [],
        3,
    ],
)
def test_damaged_parts_of_a_run_are_refused(parts: object, phantoms: Path, tmp_path: Path):
    (tmp_path / "checkpoint.pt").write_text("")
    (tmp_path / "splits.json").write_text(json.dumps({"run": [parts]}))
    with pytest.raises(UserError, match="is damaged"):
        kept_split(tmp_path, open_folder(phantoms))
