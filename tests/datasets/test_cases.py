"""Cases in memory, and batches of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cdal.datasets.cases import BatchSource, Case, fingerprints, load_case, load_cases
from cdal.datasets.convert import convert_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.recipes import find_recipe
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from helpers.cases import STILL, make_case
from helpers.files import disc_folder, make_folder, save_nifti
from helpers.recipes import small_recipe


def test_a_constant_image_is_refused(tmp_path: Path):
    save_nifti(
        make_folder(tmp_path) / "imagesTr" / "c1.nii.gz", np.full((6, 7, 8), 4.0, np.float32)
    )
    folder = open_folder(tmp_path)
    with pytest.raises(UserError, match=r"c1\.nii\.gz: expected an image with some contrast"):
        load_cases(folder.cases, folder, DataSettings(size=(8, 8, 8)))


def test_a_batch_is_a_function_of_seed_and_step():
    cases = [make_case(name) for name in ("a", "bb", "ccc")]
    moving = replace(STILL, rotation=20, intensity=1, flips=(0, 1))
    first, again, other = (BatchSource(cases, moving, 2, seed)(5) for seed in (1, 1, 2))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.label, again.label)
    assert not torch.equal(first.image, other.image)


def test_each_case_is_drawn_once_before_any_is_drawn_again():
    cases = [make_case("x" * i) for i in range(1, 8)]
    source = BatchSource(cases, STILL, 3, seed=0)
    drawn = [name for step in range(7) for name in source(step).cases]
    for epoch in range(3):
        assert sorted(drawn[7 * epoch : 7 * epoch + 7]) == sorted(case.name for case in cases)


def test_annotators_take_turns():
    case = make_case("a", raters=3)
    source = BatchSource([case], replace(STILL, size=(12, 10, 8)), 1, seed=0)
    seen = {
        next(r for r in range(3) if torch.equal(source(step).label[0], case.labels[r].long()))
        for step in range(20)
    }
    assert seen == {0, 1, 2}
    with pytest.raises(UserError, match="annotators is 4; expected at most 3"):
        BatchSource([case], STILL, 1, seed=0, annotators=4)


@pytest.mark.parametrize("form", ["geojson", "coco", "seg.nrrd"])
def test_a_training_sees_the_same_tensors_in_each_form_of_labels(form: str, tmp_path: Path):
    """The masks that the annotations are made of are the oracle."""
    masks = open_folder(disc_folder(tmp_path / "masks", 2, value=255))
    drawn = convert_folder(tmp_path / "masks", tmp_path / "drawn", form)
    settings = small_recipe().data
    expected, ours = (load_cases(f.cases, f, settings) for f in (masks, drawn))
    assert fingerprints(ours) == fingerprints(expected)
    assert drawn.classes == masks.classes == ("background", "foreground")


def test_the_small_recipe_fits_the_phantoms(phantoms: Path):
    folder = open_folder(phantoms)
    assert load_cases(folder.cases[:1], folder, small_recipe().data)[0].image.shape == (1, 32, 32)


def test_intensities_of_any_scale_become_alike(hippocampus: Path):
    folder = open_folder(hippocampus)
    recipe = find_recipe("hippocampus")
    for files in folder.cases[::40]:
        case = load_case(files, folder, recipe.data)
        assert abs(float(case.image.mean())) < 1e-3
        assert abs(float(case.image.std()) - 1) < 1e-2
        label = read_case(files, folder)[1][0].array[0]
        np.testing.assert_array_equal(
            np.bincount(case.labels.numpy().ravel()), np.bincount(label.ravel())
        )


def test_several_annotators_come_with_one_image():
    case, single = make_case("a", raters=3), make_case("bb")
    source = BatchSource([case, single], replace(STILL, size=(12, 10, 8)), 2, seed=0, annotators=2)
    seen = set()
    for step in range(60):
        batch = source(step)
        assert batch.others.shape == (1, *batch.label.shape)
        assert torch.equal(batch.labels(), torch.cat([batch.label, batch.others[0]]))
        place = batch.cases.index("a")
        numbers = [
            next(r for r in range(3) if torch.equal(label, case.labels[r].long()))
            for label in (batch.label[place], batch.others[0, place])
        ]
        assert numbers[0] != numbers[1]
        seen.add(tuple(numbers))
        alone = batch.cases.index("bb")
        assert torch.equal(batch.label[alone], batch.others[0, alone])
    assert len(seen) == 6
    assert BatchSource([case], STILL, 1, seed=0)(0).others is None


def test_where_a_patch_lies_does_not_tell_what_the_annotator_drew():
    """One annotator drew a corner, the other nothing; all patches are centred on what any drew.
    The image holds its own coordinate, so the mean of a patch is its place.
    """
    place = torch.arange(40.0)[None, :, None, None].expand(1, 40, 40, 40)
    labels = torch.zeros(2, 40, 40, 40, dtype=torch.uint8)
    labels[0, 30:33, 30:33, 30:33] = 1
    settings = replace(STILL, size=(8, 8, 8), foreground=1.0)
    source = BatchSource([Case("a", place, labels)], settings, 1, seed=0)
    batches = [source(step) for step in range(20)]
    assert {bool(batch.label.any()) for batch in batches} == {True, False}
    assert all(abs(float(batch.image.mean()) - 31) <= 3.5 for batch in batches)
