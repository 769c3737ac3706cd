"""The command line, as a user meets it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.cli import VERBS, main
from cdal.segmenters.model_header import CHECKPOINT, MODEL
from cdal.training import train as training
from cdal.training.progress import Step
from helpers.files import full_disk, visible, volume


def test_train_predict_and_info_by_command(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    fields = [
        "--segmenter.channels=[8,12,16]",
        "--segmenter.denoiser_channels=16",
        "--training.batch=2",
    ]
    command = [
        "train",
        "phantoms",
        "--data",
        str(phantoms),
        "--out",
        str(tmp_path / "run"),
        "--steps",
        "3",
        *fields,
    ]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == str(tmp_path / "run" / "model.safetensors")
    assert "finished already" not in shown.err
    assert main(command) == 0  # resumes, and finds nothing left to do
    again = capsys.readouterr()
    assert again.out == shown.out
    assert f"the run in {tmp_path / 'run'} was finished already" in again.err
    assert main([*command, "--seed", "4"]) == 2
    assert "training.seed is 0 there and 4 now" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["training"]["batch"] == 2


@pytest.mark.parametrize(
    "held, steps, then",
    [
        (None, 0, "There was no checkpoint yet: the same command begins again."),
        (None, 1, "The same command resumes it."),
        (CHECKPOINT, 0, "goes on with it if its settings and data are the same."),
        (MODEL, 0, "goes on with it if its settings and data are the same."),
        (CHECKPOINT, 1, "The same command resumes it."),
    ],
)
def test_a_training_says_whether_the_same_command_resumes_it(
    held: str | None,
    steps: int,
    then: str,
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Before the first checkpoint it does not, nor perhaps a run that was in the folder before."""
    run = tmp_path / "run"

    def stopped(*words: Any) -> None:
        run.mkdir()
        if held:
            (run / held).write_bytes(b"")
        for _ in range(steps):
            words[4](Step("training"))
            (run / CHECKPOINT).write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stopped)
    assert main(["train", "phantoms", "--data", str(phantoms), "--out", str(run)]) == 130
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(then)
    assert (str(run) in error) == (held is not None and not steps)


def test_dry_run_shows_the_recipe_and_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [
        "train",
        "hippocampus",
        "--fold",
        "2",
        "--segmenter",
        "cdal-paper",
        "--training.batch",
        "9",
        "--dry-run",
    ]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "fold: 2" in shown
    assert "attention: raw" in shown
    assert "batch: 9" in shown
    assert not (tmp_path / "run").exists()


def test_options_may_stand_in_a_file(
    trained: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "options.yaml").write_text(
        f"model: {trained}\ndata: {phantoms}\nvotes: 2\njson: true\n"
    )
    assert main(["evaluate", "--config", str(tmp_path / "options.yaml")]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["votes"] == 2


def test_without_a_word_the_first_steps_are_shown(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 5
    words = [line.split()[1] for line in shown]
    assert words == ["demo", "predict", "check", "train", "--help"]
    assert set(words[:-1]) <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]):
    """The help says what the verb does, as the list of all verbs does."""
    for words in ([verb, "--help"], ["--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "usage: cdal" in shown
        assert VERBS[verb].__doc__.splitlines()[0].split(": ", 1)[1] in shown


def test_importing_the_package_imports_no_torch():
    code = "import sys, cdal; cdal.load; cdal.predict; cdal.Predictor; cdal.Sampling; cdal.Recipe; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_names_of_the_package_are_what_they_say_in_any_order():
    """Also when the modules of the same names were imported before, into a package that nobody has
    used yet. A process of its own: modules that are imported twice in one have two of each class.
    """
    code = (
        "import importlib\n"
        "importlib.import_module('cdal.training.train')\n"
        "importlib.import_module('cdal.inference.predict')\n"
        "package = importlib.import_module('cdal')\n"
        "for name in ('train', 'predict', 'evaluate', 'load'):\n"
        "    assert callable(getattr(package, name))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "hipocampus", "--data", "x", "--out", "y"], "Did you mean hippocampus"),
        (["train", "phantoms", "--data", "nowhere", "--out", "y"], "no such folder"),
        (
            ["train", "phantoms", "--data", "x", "--out", "y", "--training.stepz", "3"],
            "Did you mean training.steps",
        ),
        (
            ["train", "phantoms", "--data", "x", "--out", "y", "--segmenter", "resnet"],
            "no segmenter 'resnet'",
        ),
        (
            ["train", "phantoms", "--data", "x", "--out", "y", "--fold", "9"],
            "data.fold must be 0 to 3",
        ),
        (["train", "phantoms"], "--data and --out are needed"),
        (["predict", "unheard-of", "x.png", "--out", "y"], "no model unheard-of"),
        (["evaluate", "unheard-of", "--data", "x"], "no model unheard-of"),
        (["info", "unheard-of"], "no model unheard-of"),
        (["train", "phantoms", "--device", "tpu", "--data", "x", "--out", "y"], "no device 'tpu'"),
        (["predict", "m", "x", "--out", "y", "--votes", "0"], "votes must be 1 or more"),
        (
            ["predict", "m", "x", "--out", "y", "--training.steps", "3"],
            "can be given to train, crossval, experiment only",
        ),
    ],
)
def test_wrong_words_exit_with_2_and_say_why(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "y" / "model.safetensors").exists()


def test_words_that_no_parser_knows_exit_with_2(capsys: pytest.CaptureFixture[str]):
    for words in (["nothing"], ["predict"], ["evaluate", "m", "--votes", "many"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert "usage: cdal" in capsys.readouterr().err


def test_the_module_is_the_command():
    """`python -m cdal` takes words and gives the exit code of the verb."""
    done = subprocess.run(
        [sys.executable, "-m", "cdal", "info", "unheard-of"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("cdal info: no model unheard-of")


def test_a_broken_file_is_reported_and_the_others_are_done(
    volume_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    scans = tmp_path / "scans"
    volume(scans / "good.nii.gz")
    whole = volume(scans / "short.nii.gz", shape=(20, 20, 20)).read_bytes()
    (scans / "short.nii.gz").write_bytes(whole[: len(whole) // 2])
    (scans / "text.nii.gz").write_text("hello")
    (scans / "zipped.nii.gz").write_bytes(gzip.compress(b"hello"))
    volume(scans / "series.nii.gz", shape=(8, 8, 8, 3))
    nib.save(
        nib.Nifti1Image(np.full((8, 8, 8), np.nan, np.float32), np.eye(4)), scans / "nan.nii.gz"
    )
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), 5.0, np.float32), np.eye(4)), scans / "flat.nii.gz")
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(scans / "picture.png")
    assert (
        main(
            [
                "predict",
                str(volume_model),
                str(scans),
                str(tmp_path / "missing.nii.gz"),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 3
    )
    error = capsys.readouterr().err
    assert "Traceback" not in error
    for name in ("short", "text", "zipped", "series", "nan", "flat", "picture", "missing"):
        assert any(name in line and len(line) > 60 for line in error.splitlines())
    assert visible(tmp_path / "out") == {
        "good_mask.nii.gz",
        "predictions.json",
    }
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["failed"]) == 8


def test_nothing_done_at_all_is_exit_code_2(volume_model: Path, tmp_path: Path):
    (tmp_path / "text.nii.gz").write_text("hello")
    assert (
        main(
            [
                "predict",
                str(volume_model),
                str(tmp_path / "text.nii.gz"),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 2
    )


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_for_results_that_cannot_be_made_is_refused_before_the_work(
    out: str, volume_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("here first")
    assert (
        main(
            [
                "predict",
                str(volume_model),
                str(volume(tmp_path / "a.nii.gz")),
                "--out",
                str(tmp_path / out),
            ]
        )
        == 2
    )
    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "here first"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(volume_model: Path, tmp_path: Path):
    (tmp_path / "out").mkdir(mode=0o500)
    assert (
        main(
            [
                "predict",
                str(volume_model),
                str(volume(tmp_path / "a.nii.gz")),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 2
    )


def test_a_full_disk_leaves_nothing_half_written(
    volume_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The mask and the record fit on the disk, the probabilities do not."""
    source = volume(tmp_path / "a.nii.gz", shape=(30, 30, 30))
    with full_disk(20_000):
        code = main(
            [
                "predict",
                str(volume_model),
                str(source),
                "--out",
                str(tmp_path / "out"),
                "--save",
                "mask",
                "probability",
            ]
        )
    assert code == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'out' / 'a_probability.nii.gz'} cannot be written" in error
    assert "Traceback" not in error
    assert visible(tmp_path / "out") <= {"a_mask.nii.gz", "predictions.json"}


def test_two_inputs_of_one_name_are_refused(volume_model: Path, tmp_path: Path):
    paths = [str(volume(tmp_path / folder / "a.nii.gz")) for folder in ("x", "y")]
    assert main(["predict", str(volume_model), *paths, "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
