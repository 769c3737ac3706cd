"""The recipe that is derived from a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cdal.cli import main
from cdal.datasets.cases import load_cases
from cdal.datasets.check import check_folder
from cdal.datasets.derive import folder_recipe, tuned_recipe
from cdal.datasets.partition import split_cases
from cdal.runtime.errors import UserError
from cdal.training.train import train
from helpers.files import change, disc_folder, picture, save_nifti
from helpers.recipes import small_recipe


def test_large_objects_are_seen_whole(tmp_path: Path):
    derived = folder_recipe(check_folder(disc_folder(tmp_path, size=400, radius=100)))
    data = derived.recipe.data
    assert data.resize == data.size == (256, 256)
    assert data.channels == 1
    assert data.flips == ()
    assert derived.recipe.segmenter.sampling_timesteps == 2
    assert "whole picture" in derived.reasons["data.resize"]


def test_small_objects_are_seen_at_their_own_resolution(tmp_path: Path):
    derived = folder_recipe(check_folder(disc_folder(tmp_path, size=400, radius=8)))
    data = derived.recipe.data
    assert data.resize is None
    assert data.size == (256, 256)
    assert data.flips == (0, 1)
    assert data.foreground > 0
    assert derived.recipe.segmenter.sampling_timesteps == 4


@pytest.mark.parametrize(("place", "shift"), [("middle", 0.0), ("anywhere", 16.0)])
def test_pictures_cut_around_small_objects_know_their_middle(
    place: str, shift: float, tmp_path: Path
):
    """The middle is that of all annotators, who may each see something else, or nothing."""
    rng = np.random.default_rng(0)
    for i in range(12):
        picture(tmp_path / "images" / f"c{i}.png", rng.integers(0, 99, (96, 96)).astype(np.uint8))
        y, x = (48, 48) if place == "middle" else rng.integers(20, 76, 2)
        for rater in range(2):
            mask = np.zeros((96, 96), np.uint8)
            mask[y - 3 : y + 3, x - 3 * rater : x + 3 * (1 - rater)] = i > 0
            picture(tmp_path / "masks" / f"c{i}_rater{rater}.png", mask)
    derived = folder_recipe(check_folder(tmp_path))
    data = derived.recipe.data
    assert (data.shift, data.position) == (shift, place == "middle")
    assert ("data.position" in derived.reasons) == (place == "middle")
    assert derived.recipe.training.annotators == 2 and data.decision == "expected-dice"
    assert "2 or more annotations" in derived.reasons["training.annotators"]
    steps = derived.recipe.segmenter.sampling_timesteps
    assert derived.reasons["segmenter.sampling_timesteps"].startswith(f"{steps},")


def test_gray_saved_as_colours_is_gray_and_colours_are_colours(tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        change(tmp_path, f"images/c{i}.png", lambda m: m[..., None].repeat(3, axis=-1))
    assert folder_recipe(check_folder(tmp_path)).recipe.data.channels == 1
    for i in range(6):
        change(
            tmp_path,
            f"images/c{i}.png",
            lambda m: np.stack([m[..., 0], 255 - m[..., 0], m[..., 0]], axis=-1),
        )
    data = folder_recipe(check_folder(tmp_path)).recipe.data
    assert (data.channels, data.intensities) == (3, "range")


@pytest.mark.parametrize(
    ("shape", "spacing", "dims", "size"),
    [
        ((40, 50, 36), (1, 1, 1), 3, (40, 56, 40)),
        ((96, 96, 96), (1, 1, 1), 3, (48, 48, 56)),
        ((60, 64, 10), (0.8, 0.8, 6.0), 2, (64, 64)),
        ((60, 64, 10), (1, 1, 1), 2, (64, 64)),
    ],
)
def test_volumes_get_a_patch_that_fits(shape, spacing, dims: int, size, tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(5):
        save_nifti(
            tmp_path / "images" / f"v{i}.nii.gz",
            rng.normal(size=shape).astype(np.float32),
            np.diag([*spacing, 1.0]),
        )
        save_nifti(
            tmp_path / "labels" / f"v{i}.nii.gz",
            rng.integers(3, size=shape).astype(np.uint8),
            np.diag([*spacing, 1.0]),
        )
    data = folder_recipe(check_folder(tmp_path)).recipe.data
    assert data.spatial_dims == dims
    assert sorted(data.size) == sorted(size)
    assert data.spacing == spacing
    assert data.neighbours == (1 if dims == 2 else 0)


def test_patients_of_a_pattern_decide_the_number_of_folds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    disc_folder(tmp_path, count=12)
    for i in range(12):
        for part in ("images", "masks"):
            (tmp_path / part / f"c{i}.png").rename(tmp_path / part / f"p{i % 4}_{i}.png")
    assert (
        main(["train", "folder", "--data", str(tmp_path), "--dry-run", "--data.patient", "^[^_]+"])
        == 0
    )
    assert "folds: 4" in capsys.readouterr().out


def test_a_given_test_set_and_few_cases_are_respected(tmp_path: Path):
    disc_folder(tmp_path, count=4)
    assert folder_recipe(check_folder(tmp_path)).recipe.data.folds == 4
    (tmp_path / "cases.csv").write_text("case,split\nc0,test\nc1,train\nc2,train\nc3,train\n")
    assert folder_recipe(check_folder(tmp_path)).recipe.data.partition == "given"
    with pytest.raises(UserError, match="at least 3 cases"):
        folder_recipe(check_folder(disc_folder(tmp_path / "two", count=2)))


def test_a_folder_trains_with_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """16-bit TIFF images, masks of 0 and 255: check, derive, train some steps, evaluate, go on."""
    disc_folder(tmp_path / "data", count=6, value=255)
    for path in list((tmp_path / "data/images").iterdir()):
        tifffile.imwrite(
            path.with_suffix(".tif"), np.asarray(Pillow.open(path)).astype(np.uint16) * 17
        )
        path.unlink()
    command = [
        "train",
        "folder",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    assert main([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "# data.size: (64, 64): all pictures are 64 x 64" in shown
    assert main([*command, "--steps", "4", "--training.validate_every", "2"]) == 0
    capsys.readouterr()
    (kept,) = json.loads((tmp_path / "run/splits.json").read_text())["run"]
    assert sorted(name for part in kept.values() for name in part) == [f"c{i}" for i in range(6)]
    assert (
        main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "data"), "--json"]) == 0
    )
    shown = json.loads(capsys.readouterr().out)
    assert shown["cases"] == len(kept["test"])
    assert shown["protocol"]["partition"] == "stratified"


def test_however_the_pictures_are_stored_the_network_sees_the_same(tmp_path: Path):
    """Gray PNG with masks of 0 and 255; TIFF in colours, renamed, masks of 0 and 1 in BMP; NPY and
    `_mask.tif`: one recipe, one split, the same tensors. JPEG differs by what it loses.
    """
    disc_folder(tmp_path / "png", size=300, radius=90, value=255)
    for i in range(6):
        image = np.asarray(Pillow.open(tmp_path / f"png/images/c{i}.png"))
        mask = np.asarray(Pillow.open(tmp_path / f"png/masks/c{i}.png"))
        for folder in ("tiff", "npy", "jpeg"):
            (tmp_path / folder / "images").mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / f"tiff/images/scan {i}.tif",
            image[..., None].repeat(3, -1),
            photometric="rgb",
        )
        picture(tmp_path / f"tiff/masks/scan {i}.bmp", mask // 255)
        np.save(tmp_path / f"npy/images/c{i}.npy", image)
        tifffile.imwrite(tmp_path / f"npy/masks/c{i}_mask.tif", mask // 85)
        Pillow.fromarray(image).save(tmp_path / f"jpeg/images/c{i}.jpg", quality=92)
        picture(tmp_path / f"jpeg/masks/c{i}.png", mask // 255)
    derived = {}
    for folder in ("png", "tiff", "npy", "jpeg"):
        checked = check_folder(tmp_path / folder)
        recipe = folder_recipe(checked).recipe
        split = split_cases(checked.folder, recipe.data)
        derived[folder] = recipe, split, load_cases(split.train, checked.folder, recipe.data)
    recipe, split, cases = derived["png"]
    for folder in ("tiff", "npy", "jpeg"):
        assert derived[folder][0] == recipe
        assert [case.name[-1] for case in derived[folder][1].test] == [
            case.name[-1] for case in split.test
        ]
        for mine, theirs in zip(derived[folder][2], cases, strict=True):
            assert (mine.labels == theirs.labels).all()
            worst = (mine.image - theirs.image).abs().max()
            assert worst < (0.3 if folder == "jpeg" else 1e-6)


@pytest.mark.parametrize("shape", [(3, 5), (20, 30), (64, 600)])
def test_pictures_of_odd_shapes_train(shape: tuple[int, int], tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(4):
        picture(
            tmp_path / "data/images" / f"c{i}.png",
            rng.integers(0, 255, size=shape).astype(np.uint8),
        )
        picture(
            tmp_path / "data/masks" / f"c{i}.png", rng.integers(0, 2, size=shape).astype(np.uint8)
        )
    checked = check_folder(tmp_path / "data")
    recipe = folder_recipe(checked).recipe
    recipe = replace(recipe, training=replace(recipe.training, steps=1, batch=1, precision="32"))
    assert train(recipe, checked, tmp_path / "run", "cpu").is_file()


def test_without_data_no_recipe_can_be_derived(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "folder", "--dry-run"]) == 2
    assert "give --data" in capsys.readouterr().err


def test_a_reason_is_shown_only_for_a_value_that_was_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    disc_folder(tmp_path, count=4)
    command = ["train", "folder", "--data", str(tmp_path), "--dry-run"]
    assert main([*command, "--steps", "7", "--data.channels", "1"]) == 0
    shown = capsys.readouterr().out
    assert "# training.steps" not in shown
    assert "# data.channels" in shown  # it is what was derived
    assert "# data.size" in shown


def test_a_model_that_is_trained_further_keeps_its_grid_and_takes_the_folders_parts(tmp_path: Path):
    """Other images would have given another grid."""
    model = small_recipe()
    folder = disc_folder(tmp_path, count=6, size=400, radius=100)
    derived = tuned_recipe(model, "small", check_folder(folder))
    own = {"partition": "stratified", "folds": 5}
    assert derived.recipe.data == replace(model.data, **own)
    assert folder_recipe(check_folder(folder)).recipe.data.resize == (256, 256)
    assert set(derived.reasons) >= {"data", "segmenter", "training.learning_rate"}
    rows = "".join(f"c{i},{'test' if i < 2 else 'train'}\n" for i in range(6))
    (folder / "cases.csv").write_text(f"case,split\n{rows}")
    of_folder = tuned_recipe(model, "small", check_folder(folder)).recipe.data
    assert of_folder.partition == "given"


def test_a_model_is_not_trained_further_on_too_few_cases(tmp_path: Path):
    with pytest.raises(UserError, match="at least 3 cases"):
        tuned_recipe(small_recipe(), "small", check_folder(disc_folder(tmp_path, count=2)))


@pytest.mark.parametrize("radius", [8, 100])
def test_a_size_changes_the_patch_and_not_the_kind(radius: int, tmp_path: Path):
    """Small objects stay small; no picture is enlarged beyond its own or the usual side."""
    check = check_folder(disc_folder(tmp_path, size=400, radius=radius))
    usual, large = (folder_recipe(check, size=size) for size in ("S", "L"))
    window, picture = ((400, 400), None) if radius == 8 else ((400, 400), (400, 400))
    assert (large.recipe.data.size, large.recipe.data.resize) == (window, picture)
    assert large.recipe.data.flips == usual.recipe.data.flips
    assert large.recipe.segmenter.diffusion_steps == usual.recipe.segmenter.diffusion_steps
    assert large.recipe.training.steps == 3 * (usual.recipe.training.steps or 0)
    assert "size L" in large.reasons["segmenter.channels"]


def test_large_pictures_have_larger_windows(tmp_path: Path):
    check = check_folder(disc_folder(tmp_path, size=700, radius=8))
    assert folder_recipe(check, size="L").recipe.data.size == (512, 512)
