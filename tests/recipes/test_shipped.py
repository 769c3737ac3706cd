"""The shipped recipes learn, and the shipped models segment, on real data (skipped where there are
none).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cdal.datasets.check import check_folder
from cdal.datasets.derive import folder_recipe
from cdal.datasets.folder import open_folder
from cdal.datasets.partition import split_cases
from cdal.datasets.public import prepare
from cdal.datasets.reading import read_case
from cdal.evaluation.evaluate import evaluate
from cdal.evaluation.metrics import count
from cdal.imaging.formats import read_image, read_label
from cdal.inference.load import load
from cdal.inference.sampling import Sampling
from cdal.recipes import find_recipe, with_segmenter
from cdal.recipes.recipe import DataSettings, override
from cdal.training.train import train
from helpers.data import real


def test_the_shipped_model_segments_its_test_cases(hippocampus: Path):
    predictor, folder = load("hippocampus"), open_folder(hippocampus)
    for case in split_cases(folder, DataSettings(folds=4)).test[::16]:
        truth = read_case(case, folder)[1][0].array[0]
        mask = predictor.predict(case.image).mask
        for k in (1, 2):
            assert count(mask == k, truth == k).dice > 0.75


def test_the_shipped_model_segments_a_volume_however_it_is_stored(
    hippocampus: Path, tmp_path: Path
):
    """The same voxels with other axes and another origin get the same volume of each class, and the
    same mask.
    """
    source = (
        hippocampus
        / "imagesTr"
        / f"{split_cases(open_folder(hippocampus), DataSettings(folds=4)).test[0].name}.nii.gz"
    )
    first = nib.load(source)
    turned = first.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    nib.save(turned, tmp_path / "turned.nii.gz")
    predictor = load("hippocampus")
    here = predictor.predict(source, case="x").mask
    there = predictor.predict(tmp_path / "turned.nii.gz", case="x").mask
    undo = nib.orientations.ornt_transform(
        nib.io_orientation(turned.affine), nib.io_orientation(first.affine)
    )
    back = np.asarray(nib.Nifti1Image(there, turned.affine).as_reoriented(undo).dataobj)
    assert count(back == 1, here == 1).dice > 0.999
    assert count(back == 2, here == 2).dice > 0.999


@pytest.mark.parametrize(
    ("name", "part", "side", "least"), [("cxr", ".", None, 0.93), ("monuseg", "test", 500, 0.75)]
)
def test_the_shipped_models_segment_their_test_pictures(
    name: str, part: str, side: int | None, least: float
):
    """Whole X-rays, as the model sees them; and of the tissue a quarter of each picture."""
    folder = real(name) / part
    predictor = load(name, Sampling(votes=2))
    dice = []
    for case in predictor.header.data["test"][::10]:
        image = read_image(folder / "images" / f"{case}.png")
        truth = read_label(folder / "masks" / f"{case}.png").array[0, :side, :side] > 0
        seen = replace(image, array=image.array[:, :side, :side])
        dice.append(count(predictor.predict(seen, case).mask == 1, truth).dice)
    assert np.mean(dice) >= least


@pytest.mark.slow
def test_the_recipe_of_the_nodules_is_what_their_folder_gives():
    """But for the number of steps and of votes."""
    derived = folder_recipe(check_folder(real("lidc_nodules"))).recipe
    shipped = find_recipe("lidc")
    assert shipped.data == derived.data
    assert replace(shipped.segmenter, votes=15) == derived.segmenter
    assert replace(shipped.training, steps=1000) == derived.training


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "segmenter", "least"),
    [
        ("hippocampus", "cdal", 0.75),
        ("hippocampus", "cdal-unet", 0.75),
        ("hippocampus", "dynunet", 0.75),
        ("hippocampus-slices", "cdal", 0.70),
    ],
)
def test_two_minutes_teach_the_hippocampus(
    recipe: str, segmenter: str, least: float, hippocampus: Path, tmp_path: Path
):
    chosen = with_segmenter(find_recipe(recipe), segmenter)
    chosen = override(
        chosen, {"training.steps": None, "training.minutes": 2, "training.validate_every": 100000}
    )
    model = train(replace(chosen), hippocampus, tmp_path / "run", "cpu")
    scores = evaluate(model, hippocampus, Sampling(votes=2)).summary()
    assert min(scores["classes"][name]["dice"] for name in ("Anterior", "Posterior")) >= least


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("cxr", 0.90), ("monuseg", 0.65)])
def test_three_minutes_teach_the_pictures(name: str, least: float, tmp_path: Path):
    prepare(name, real(name), tmp_path / "data")
    recipe = override(
        find_recipe(name),
        {"training.steps": None, "training.minutes": 3, "training.validate_every": 100000},
    )
    model = train(recipe, tmp_path / "data", tmp_path / "run", "cpu")
    scores = evaluate(model, tmp_path / "data", Sampling(votes=1)).summary()
    assert scores["mean"]["dice"] >= least
    assert set(scores["also"]) == set(recipe.data.protocols[1:])
