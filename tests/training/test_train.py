"""The loop, the run folder, and the model file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cdal.cli import main
from cdal.datasets.folder import open_folder
from cdal.datasets.phantoms import write_phantoms
from cdal.datasets.reading import read_case
from cdal.evaluation.calibration import fit_temperature
from cdal.evaluation.evaluate import evaluate
from cdal.inference.decision import temper
from cdal.inference.load import load
from cdal.inference.sampling import Sampling
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import Recipe, load_recipe, to_yaml
from cdal.runtime.errors import UserError
from cdal.runtime.files import sole_writer
from cdal.segmenters.model_file import load_model, save_model
from cdal.segmenters.model_header import ModelHeader, find_model, read_header
from cdal.segmenters.segmenter import Supervised
from cdal.training.checkpoint import load_checkpoint
from cdal.training.log import read_log
from cdal.training.progress import Step
from cdal.training.run_folder import claim
from cdal.training.train import train
from helpers.events import steps_only
from helpers.recipes import small_recipe

# The run folder


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


def test_training_lowers_the_loss(trained: Path):
    losses = [row["generator"] for row in read_log(trained) if "generator" in row]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_model_is_the_best_on_validation_and_says_so(trained: Path, phantoms: Path):
    header = read_header(trained / "model.safetensors")
    validations = {row["step"]: row["validation"] for row in read_log(trained) if "validation" in row}
    assert header.step == max(validations, key=validations.get)
    assert header.scores["lesion"] == pytest.approx(validations[header.step])
    names = [case.name for case in open_folder(phantoms).cases]
    assert header.data["validation"] == names[1::4]
    assert sorted(header.data["train"] + header.data["validation"]) == sorted(set(names) - set(names[0::4]))
    assert header.classes == ("background", "lesion")


def test_the_temperature_is_that_of_the_kept_weights_on_the_validation_cases(trained: Path, phantoms: Path, tmp_path: Path):
    """Found again from predictions as they come; without it a model is the same to the last weight."""
    model = trained / "model.safetensors"
    header, folder, plain = read_header(model), open_folder(phantoms), load(trained, Sampling(temperature=1))
    cases = [read_case(case, folder) for case in folder.cases if case.name in header.data["validation"]]
    found = [
        (plain.predict(image, case=name).probability, np.stack([label.array[0] for label in labels]))
        for name, (image, labels) in zip(header.data["validation"], cases, strict=True)
    ]
    assert header.temperature == pytest.approx(fit_temperature(found), abs=2e-3)
    image = cases[0][0]
    own = load(trained).predict(image)
    np.testing.assert_allclose(own.probability, temper(plain.predict(image).probability, header.temperature), atol=1e-6)

    without = train(small_recipe(calibrate=False), phantoms, tmp_path / "run", "cpu")
    assert read_header(without).temperature is None
    assert load(without).temperature == 1
    weights, same = load_file(model), load_file(without)
    assert all(weights[name].equal(same[name]) for name in weights)


def test_without_validation_all_but_the_test_cases_train_and_the_last_weights_are_kept(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = small_recipe(steps=3, validate_every=1)
    recipe = replace(recipe, data=replace(recipe.data, validation=False))
    out = tmp_path / "run"
    header = read_header(train(recipe, phantoms, out, "cpu"))
    names = [case.name for case in open_folder(phantoms).cases]
    assert (header.step, header.scores, header.data["validation"], header.temperature) == (3, {}, [], None)
    assert sorted(header.data["train"]) == sorted(set(names) - set(names[0::4]))
    assert not any("validation" in row for row in read_log(out))
    assert evaluate(out, phantoms).summary()["cases"] == len(names[0::4])
    with pytest.raises(UserError, match="trained on its validation cases too"):
        evaluate(out, phantoms, split="validation")
    assert main(["info", str(out)]) == 0
    assert "validation: false" in capsys.readouterr().out


def test_progress_is_told_after_each_step(phantoms: Path, tmp_path: Path):
    told: list[Step] = []
    train(small_recipe(steps=4, validate_every=2), phantoms, tmp_path / "run", "cpu", steps_only(told.append))
    assert [now.step for now in told] == [1, 2, 3, 4]
    assert told[-1].done == 1
    assert "lesion" in told[-1].scores


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained: Path, phantoms: Path, tmp_path: Path):
    same = train(small_recipe(), phantoms, tmp_path / "same", "cpu")
    other = train(small_recipe(seed=1), phantoms, tmp_path / "other", "cpu")
    assert same.read_bytes() == (trained / "model.safetensors").read_bytes()
    assert load_file(other)["stem.weight"].ne(load_file(same)["stem.weight"]).any()


RUN = """
import sys
from helpers.events import steps_only
from helpers.recipes import small_recipe
from cdal.training.train import train
train(small_recipe(), sys.argv[1], sys.argv[2], "cpu", steps_only(lambda now: print(now.step, flush=True)))
"""


@pytest.mark.parametrize("kill_at", [3, 10, 17])
def test_a_killed_run_ends_in_the_bytes_of_one_that_was_not(kill_at: int, trained: Path, phantoms: Path, tmp_path: Path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(phantoms), str(out)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < kill_at:
        pass
    time.sleep(0.02 * kill_at % 0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    train(small_recipe(), phantoms, out, "cpu")
    assert (out / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert (out / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()


def test_a_finished_run_is_not_trained_again(trained: Path, phantoms: Path):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    told: list[Step] = []
    train(small_recipe(), phantoms, trained, "cpu", steps_only(told.append))
    assert told == []
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


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
def test_a_run_does_not_go_on_with_other_data(change: Callable[[Path], None], phantoms: Path, tmp_path: Path):
    shutil.copytree(phantoms, tmp_path / "data")
    train(small_recipe(steps=5), tmp_path / "data", tmp_path / "run", "cpu")
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    change(tmp_path / "data")
    with pytest.raises(UserError, match=r"holds a run on other data|of one patient or the same image"):
        train(small_recipe(steps=5), tmp_path / "data", tmp_path / "run", "cpu")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_run_goes_on_with_its_own_parts_when_cases_are_added(phantoms: Path, tmp_path: Path):
    shutil.copytree(phantoms, tmp_path / "data")
    train(small_recipe(steps=5), tmp_path / "data", tmp_path / "run", "cpu")
    kept = (tmp_path / "run" / "splits.json").read_text()
    for path in list((tmp_path / "data").rglob("phantom_0000*")):
        picture = np.asarray(Pillow.open(path))[::-1] if path.parent.name == "images" else None
        target = path.with_name(path.name.replace("phantom_0000", "phantom_00005"))
        Pillow.fromarray(picture.copy()).save(target) if picture is not None else target.write_bytes(path.read_bytes())
    assert train(small_recipe(steps=5), tmp_path / "data", tmp_path / "run", "cpu").is_file()
    assert (tmp_path / "run" / "splits.json").read_text() == kept


def test_minutes_end_a_run_and_its_learning_rate(phantoms: Path, tmp_path: Path):
    told: list[Step] = []
    began = time.monotonic()
    train(small_recipe(steps=None, minutes=0.05), phantoms, tmp_path / "run", "cpu", steps_only(told.append))
    assert told[-1].done >= 1
    assert time.monotonic() - began < 20
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_other_settings_train_too(phantoms: Path, tmp_path: Path):
    recipe = replace(small_recipe(steps=3), segmenter=ImageUNetSettings(channels=(8, 12, 16)))
    segmenter, _ = load_model(train(recipe, phantoms, tmp_path / "unet", "cpu"))
    assert isinstance(segmenter, Supervised)
    bf16 = small_recipe(steps=3, precision="bf16")
    assert train(bf16, phantoms, tmp_path / "bf16", "cpu").is_file()


@pytest.mark.parametrize("validation", [True, False])
def test_the_test_cases_can_be_watched_and_choose_nothing(validation: bool, tmp_path: Path):
    """The log's Dice is that of `evaluate`; the weights are those of a training that does not look."""
    data = write_phantoms(tmp_path / "data", 16, seed=1, size=32, raters=1)
    recipe = small_recipe(calibrate=False)
    recipe = replace(recipe, data=replace(recipe.data, validation=validation))
    watching = replace(recipe, training=replace(recipe.training, watch_test=True))
    plain, watched = (train(one, data, tmp_path / name, "cpu") for name, one in (("plain", recipe), ("watched", watching)))
    weights = [load_model(path)[0].state_dict() for path in (plain, watched)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not any("test" in row for row in read_log(tmp_path / "plain"))
    curve = {row["step"]: row["test"] for row in read_log(tmp_path / "watched") if "test" in row}
    assert list(curve) == [10, 20]
    _, header = load_model(watched)
    scored = evaluate(watched, data, Sampling(votes=recipe.training.validation_votes)).summary()
    assert curve[header.step] == pytest.approx(scored["mean"]["dice"], abs=1e-6)


def test_ctrl_c_ends_the_step_and_writes_a_checkpoint(trained: Path, phantoms: Path, tmp_path: Path):
    """The signal comes in the eighth step, between two checkpoints; the same command then ends in the same bytes."""

    def press(now: Step) -> None:
        if now.step == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(small_recipe(), phantoms, tmp_path / "run", "cpu", steps_only(press))
    assert [row["step"] for row in read_log(tmp_path / "run")][-1] == 8
    resumed = train(small_recipe(), phantoms, tmp_path / "run", "cpu")
    assert resumed.read_bytes() == (trained / "model.safetensors").read_bytes()


# Faults


def test_a_run_is_not_gone_on_with_on_other_data(phantoms: Path, tmp_path: Path):
    other = write_phantoms(tmp_path / "other", 16, seed=9, size=32, raters=3)
    train(small_recipe(steps=2), phantoms, tmp_path / "run", "cpu")
    with pytest.raises(UserError, match="other data"):
        train(small_recipe(steps=2), other, tmp_path / "run", "cpu")


def test_two_trainings_do_not_share_a_folder(phantoms: Path, tmp_path: Path):
    with sole_writer(tmp_path / "run"), pytest.raises(UserError, match="another process"):
        train(small_recipe(), phantoms, tmp_path / "run", "cpu")


def test_a_folder_that_never_trained_may_begin_anew(phantoms: Path, tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        train(small_recipe(steps=2), tmp_path / "nowhere", tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()
    claim(tmp_path / "run", small_recipe(steps=2))
    assert train(small_recipe(steps=3), phantoms, tmp_path / "run", "cpu").is_file()


def test_a_model_that_is_gone_is_told(phantoms: Path, tmp_path: Path):
    train(small_recipe(steps=2), phantoms, tmp_path / "run", "cpu").unlink()
    with pytest.raises(UserError, match="is gone"):
        train(small_recipe(steps=2), phantoms, tmp_path / "run", "cpu")


def test_a_full_disk_keeps_the_last_checkpoint(trained: Path, tmp_path: Path):
    """A limit on the size of files stands for the end of the disk."""
    code = """
import resource, sys, torch
from pathlib import Path
from cdal.runtime.errors import UserError
from cdal.training.checkpoint import Checkpoint, save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
big = torch.nn.Linear(100, 100)
try:
    save_checkpoint(Path(sys.argv[1]), Checkpoint(), {}, big, {})
except UserError as error:
    assert "cannot be written" in str(error)
    sys.exit(7)
"""
    (tmp_path / "checkpoint.pt").write_text("before")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "checkpoint.pt")], check=False)
    assert done.returncode == 7
    assert [p.read_text() for p in tmp_path.iterdir()] == ["before"]


def test_a_loss_that_is_not_finite_stops_and_names_the_cases(phantoms: Path, tmp_path: Path):
    out = tmp_path / "run"
    wild = small_recipe(steps=40, learning_rate=1e18, clip=1e30, warmup=0.0, checkpoint_every=1)
    with pytest.raises(UserError, match="phantom_00") as caught:
        train(wild, phantoms, out, "cpu")
    assert "not finite" in str(caught.value)
    assert not list(out.glob(".cdal-*"))
    assert "last good checkpoint" in str(caught.value) or not (out / "checkpoint.pt").exists()


def test_a_damaged_checkpoint_is_refused(trained: Path, phantoms: Path, tmp_path: Path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.yaml").write_text(to_yaml(small_recipe()))
    (out / "checkpoint.pt").write_bytes((trained / "checkpoint.pt").read_bytes()[:5000])
    with pytest.raises(UserError, match="cannot be resumed from"):
        train(small_recipe(), phantoms, out, "cpu")


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path):
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    torch.save({"state": Code()}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="cannot be resumed"):
        load_checkpoint(tmp_path / "checkpoint.pt", {}, torch.nn.Linear(1, 1), {})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("device", "said"), [("tpu", "no device"), ("cuda", "no cuda device")])
def test_a_device_that_is_not_there_is_refused(device: str, said: str, phantoms: Path, tmp_path: Path):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UserError, match=said):
        train(small_recipe(), phantoms, tmp_path / "run", device)


def test_a_3d_recipe_refuses_pictures(phantoms: Path, tmp_path: Path):
    with pytest.raises(UserError, match="expected a volume"):
        train(Recipe("x"), phantoms, tmp_path / "run", "cpu")


def test_too_few_cases_for_the_folds_are_refused(phantoms: Path, tmp_path: Path):
    recipe = small_recipe()
    with pytest.raises(UserError, match="at least 40 cases"):
        train(replace(recipe, data=replace(recipe.data, folds=40)), phantoms, tmp_path / "run", "cpu")


# The model file


def test_a_model_file_says_what_it_was_given(tmp_path: Path):
    recipe = small_recipe()
    header = ModelHeader(recipe, ("background", "a"), 1, 7, {"a": 0.5}, {"train": ["x"]}, "free", 1.5)
    save_model(tmp_path / "m.safetensors", {"w": torch.arange(3.0)}, header)
    assert read_header(tmp_path / "m.safetensors") == header


def no_header(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, path)


def wrong_weights(path: Path) -> None:
    save_model(path, {"w": torch.zeros(2)}, ModelHeader(small_recipe(), ("background", "a"), 1))


def newer(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, path, {"cdal": json.dumps({"recipe": {}, "classes": ["a", "b"], "soul": 1})})


def wrong_types(path: Path) -> None:
    save_file({"w": torch.zeros(2)}, path, {"cdal": json.dumps({"recipe": {}, "classes": ["a"], "image_channels": "x"})})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b""), "is no model file"),
        (lambda path: path.write_text("not a model"), "is no model file"),
        (no_header, "no cDAL header"),
        (wrong_weights, "do not fit its recipe"),
        (newer, "newer version"),
        (wrong_types, "cannot be read"),
    ],
)
def test_files_that_are_no_models_are_refused(make, said: str, tmp_path: Path):
    make(tmp_path / "m.safetensors")
    with pytest.raises(UserError, match=said):
        load_model(tmp_path / "m.safetensors")


def test_a_model_is_found_by_file_folder_or_name(trained: Path, tmp_path: Path):
    assert find_model(trained) == find_model(trained / "model.safetensors") == trained / "model.safetensors"
    with pytest.raises(UserError, match="Shipped: "):
        find_model("unheard-of")
    with pytest.raises(UserError, match="holds no model"):
        find_model(tmp_path)
