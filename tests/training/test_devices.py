"""Two ranks against one, and what happens when one of them is lost. Refusals are quick."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cdal.datasets.phantoms import write_phantoms
from cdal.recipes import with_segmenter
from cdal.recipes.recipe import Recipe, to_yaml
from cdal.runtime.cost import kept_cost
from cdal.runtime.errors import UserError
from cdal.runtime.execution import ranks
from cdal.training import devices
from cdal.training.devices import need_slices, number_of_devices
from cdal.training.log import read_log
from cdal.training.train import train
from helpers.files import make_folder, save_nifti
from helpers.recipes import small_recipe
from helpers.systems import SMALL
from helpers.two_ranks import SYSTEMS, ends, start_ranks

CHECKPOINT, MODEL = "checkpoint.pt", "model.safetensors"


def test_a_batch_that_cannot_be_divided_is_refused_with_the_numbers_that_do():
    need_slices(small_recipe(batch=6), 3)
    with pytest.raises(UserError, match=r"Give 1 or 2 or 3 or 6 devices in all.*batch 8"):
        need_slices(small_recipe(batch=6), 4)


def test_numbers_of_devices():
    assert number_of_devices(None, None, "cpu") == (1, 1)
    assert number_of_devices("auto", None, "cpu") == (1, 1)
    assert number_of_devices("2", 3, "cpu") == (2, 3)
    for each, nodes in (("0", 1), ("two", 1), ("1", 0)):
        with pytest.raises(UserError, match="must be"):
            number_of_devices(each, nodes, "cpu")


def test_a_python_call_does_not_copy_itself(phantoms: Path, tmp_path: Path):
    with pytest.raises(UserError, match="The command line starts them"):
        train(small_recipe(), phantoms, tmp_path / "run", "cpu", devices=2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("there", "says"),
    [(True, "resumes from the last checkpoint"), (False, "there is no checkpoint yet")],
)
def test_what_the_same_command_does_depends_on_the_checkpoint(
    there: bool, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A rank is lost, without processes."""
    roll = SimpleNamespace(end=lambda error: "of the ranks 0 to 1, 1 is missing")
    fabric = SimpleNamespace(launch=lambda: None, global_rank=0)
    monkeypatch.setattr(devices, "need_place", lambda *numbers: SimpleNamespace(rank=0))
    monkeypatch.setattr(devices, "make_fabric", lambda *arguments: fabric)
    monkeypatch.setattr(ranks, "RollCall", lambda *arguments: roll)
    if there:
        (tmp_path / CHECKPOINT).touch()
    with (
        pytest.raises(UserError, match=says),
        devices.together(small_recipe(), "cpu", 2, 1, tmp_path / CHECKPOINT),
    ):
        raise ranks.DisconnectedError("closed")


def recipe_of(kind: str) -> Recipe:
    """The method with both players, a baseline, and volumes."""
    recipe = small_recipe(calibrate=False)
    if kind == "unet":
        recipe = with_segmenter(recipe, "unet")
        recipe = replace(
            recipe,
            segmenter=replace(recipe.segmenter, **SMALL["unet"]),
            training=small_recipe(calibrate=False).training,
        )
    if kind == "volumes":
        data = replace(recipe.data, spatial_dims=3, size=(16, 16, 16), flips=(0,))
        recipe = replace(recipe, data=data)
    return recipe


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data folders of pictures and of volumes."""
    top = tmp_path_factory.mktemp("data")
    pictures = write_phantoms(top / "pictures", 16, seed=1, size=32, raters=3)
    volumes, rng = make_folder(top / "volumes"), np.random.default_rng(0)
    for k in range(8):
        label = np.zeros((20, 18, 16), np.uint8)
        a, b, c = rng.integers(2, 8, 3)
        label[a : a + 8, b : b + 7, c : c + 6] = 1
        image = label + rng.normal(0, 0.5, label.shape)
        save_nifti(volumes / "imagesTr" / f"c{k}.nii.gz", image.astype(np.float32))
        save_nifti(volumes / "labelsTr" / f"c{k}.nii.gz", label)
    return {"cdal": pictures, "unet": pictures, "volumes": volumes}


@pytest.fixture(scope="module")
def words(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Path], list[str]]:
    top = tmp_path_factory.mktemp("recipes")

    def of(kind: str, out: Path) -> list[str]:
        path = top / f"{kind}.yaml"
        path.write_text(to_yaml(recipe_of(kind)))
        data = str(folders[kind])
        return ["cdal", "train", str(path), "--data", data, "--out", str(out), "--device", "cpu"]

    return of


@pytest.fixture(scope="module")
def unbroken(
    words: Callable[[str, Path], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run of two ranks that nobody disturbs."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    for code, _, error in ends(start_ranks(words("cdal", out))):
        assert code == 0, error
    return out


def farthest(first: Path, second: Path) -> float:
    """Largest difference of a weight of any player, or of the average, after two runs.

    A bias before an instance normalisation is left out: the normalisation takes it away again, its
    gradient is rounding error, and Adam makes steps of full length of that.
    """
    contents = [torch.load(out / CHECKPOINT, weights_only=True) for out in (first, second)]
    parts = [{**content["players"], "average": content["average"]} for content in contents]
    return max(
        float((weights.double() - parts[1][player][name].double()).abs().max())
        for player, state in parts[0].items()
        for name, weights in state.items()
        if not name.endswith(".conv.bias")
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cdal", "unet", "volumes"])
def test_two_ranks_come_to_the_weights_of_one(
    kind: str,
    folders: dict[str, Path],
    words: Callable[[str, Path], list[str]],
    unbroken: Path,
    tmp_path: Path,
):
    """20 steps with the same total batch; validation and log agree as well."""
    out, alone = unbroken if kind == "cdal" else tmp_path / "two", tmp_path / "one"
    if kind != "cdal":
        for code, _, error in ends(start_ranks(words(kind, out))):
            assert code == 0, error
    train(recipe_of(kind), folders[kind], alone, "cpu")
    assert farthest(out, alone) < 1e-3
    for ours, theirs in zip(read_log(out), read_log(alone), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    assert (kept_cost(out)["ranks"], kept_cost(alone)["ranks"]) == (2, 1)
    assert "ranks" not in (out / MODEL).read_bytes().decode(errors="ignore")


@pytest.mark.slow
def test_every_kind_of_draw_and_loss_is_that_of_the_whole_batch():
    """`medt` has batch normalisation and says so."""
    (code, output, error), _ = ends(start_ranks(["helpers.two_ranks"]))
    assert code == 0, error
    found = json.loads(output.splitlines()[-1])
    assert "batch normalisation" in found.pop("medt")
    assert set(found) == set(SYSTEMS) - {"medt"}
    assert max(found.values()) < 1e-3, found


def when_there(path: Path, processes: list[subprocess.Popen]) -> None:
    """Wait for a file that the processes write."""
    until = time.monotonic() + 300
    while not path.is_file() and time.monotonic() < until:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_rank_is_named_and_the_run_ends_in_the_same_bytes(
    lost: int, words: Callable[[str, Path], list[str]], unbroken: Path, tmp_path: Path
):
    ranks = start_ranks(words("cdal", tmp_path))
    when_there(tmp_path / CHECKPOINT, ranks)
    ranks[lost].kill()
    code, _, error = ends(ranks)[1 - lost]
    assert code == 2
    assert f"of the ranks 0 to 1, {lost} is missing" in error
    assert "resumes from the last checkpoint" in error
    assert not (tmp_path / "cost.json").exists()
    assert [code for code, *_ in ends(start_ranks(words("cdal", tmp_path)))] == [0, 0]
    assert (tmp_path / MODEL).read_bytes() == (unbroken / MODEL).read_bytes()


@pytest.mark.slow
def test_sigterm_on_a_copy_ends_all_and_one_rank_goes_on(
    folders: dict[str, Path],
    words: Callable[[str, Path], list[str]],
    unbroken: Path,
    tmp_path: Path,
):
    """The command line starts the copy itself; the signal comes between two checkpoints."""
    command = [sys.executable, "-m", *words("cdal", tmp_path), "--devices", "2"]
    first = subprocess.Popen(
        [*command, "--training.cache", "disk"], stderr=subprocess.PIPE, text=True
    )
    when_there(tmp_path / CHECKPOINT, [first])
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    (copy,) = [
        int(pid) for pid in children if b"train" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(copy, signal.SIGTERM)
    _, error = first.communicate(timeout=300)
    assert first.returncode == 130, error
    assert error.count("stopped. The same command resumes it.") == 1
    assert not Path(f"/proc/{copy}").exists()
    assert len(list((tmp_path / "cases").iterdir())) == 12  # train and validation of 16
    step = torch.load(tmp_path / CHECKPOINT, weights_only=True)["state"]["step"]
    assert 10 < step < 20
    train(recipe_of("cdal"), folders["cdal"], tmp_path, "cpu")
    assert farthest(tmp_path, unbroken) < 1e-3
    assert not (tmp_path / "cases").exists()


@pytest.fixture(params=["torchrun", "slurm"])
def launched(
    request: pytest.FixtureRequest, words: Callable[[str, Path], list[str]], tmp_path: Path
) -> Iterator[list[tuple[int, str, str]]]:
    """The ends of a training of two steps that a launcher has started.

    There is no Slurm here: its variables are set by hand.
    """
    short = [*words("cdal", tmp_path), "--steps", "2"]
    if request.param == "torchrun":
        command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
        done = subprocess.run(
            [sys.executable, "-m", *command, *short], capture_output=True, text=True, check=False
        )
        yield [(done.returncode, done.stdout, done.stderr)]
        return
    shared = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NAME": "train",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *short, "--devices", "2"],
            env={**os.environ, **shared, "SLURM_PROCID": rank, "SLURM_LOCALID": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    yield ends(started)


@pytest.mark.slow
def test_launchers_start_the_ranks(launched: list[tuple[int, str, str]], tmp_path: Path):
    """Only the first rank talks, and only once."""
    assert [code for code, *_ in launched] == [0] * len(launched), launched
    assert "".join(output for _, output, _ in launched) == f"{tmp_path / MODEL}\n"
    assert kept_cost(tmp_path)["ranks"] == 2
    assert kept_cost(tmp_path)["steps"] == 2
