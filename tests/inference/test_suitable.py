"""Images with other axes than those that a model was trained on are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cdal.imaging.image import Image
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from cdal.inference.suitable import need_suitable
from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import ModelHeader

PICTURES = {"training_images": {"lengths": []}}
SPACE = {"training_images": {"lengths": [[1.0, 2.0]] * 3}}


def look(shape: tuple[int, ...], placed: bool, header: dict[str, Any], **data: Any) -> None:
    """Require that a model of slices or pictures can segment an image."""
    settings = DataSettings(**{"spatial_dims": 2, "size": (32, 32), **data})
    about = ModelHeader(Recipe("x", settings, CDALSettings()), ("background", "a"), 1, **header)
    image = Image(np.zeros((1, *shape), np.float32), np.eye(4) if placed else None)
    need_suitable(image, about, settings, "x")


@pytest.mark.parametrize(("shape", "words"), [((9, 8, 1), "its"), ((9, 8, 4), "a")])
@pytest.mark.parametrize("resize", [None, (32, 32)])
def test_a_volume_for_a_model_of_pictures_is_refused_with_the_remedy(
    resize: tuple[int, int] | None, shape: tuple[int, ...], words: str
):
    with pytest.raises(UserError, match=rf"Save {words} slice as a picture, such as PNG"):
        look(shape, True, PICTURES, resize=resize)


def test_stacks_of_pictures_have_rows_and_columns():
    look((9, 8, 4), False, PICTURES)


@pytest.mark.parametrize("axes", [2, 3])
def test_models_without_a_description_of_their_images_know_the_axes(axes: int):
    header = {"data": {"axes": axes}}
    if axes == 2:
        with pytest.raises(UserError, match="whose axes are rows and columns"):
            look((9, 8, 1), True, header)
    else:
        look((9, 8, 1), True, header)


@pytest.mark.parametrize("header", [SPACE, {}])
@pytest.mark.parametrize("shape", [(9, 8, 1), (9, 8, 4)])
def test_models_of_slices_see_volumes(header: dict[str, Any], shape: tuple[int, ...]):
    look(shape, True, header)
    look(shape, True, header, neighbours=1)


@pytest.mark.parametrize(("header", "neighbours"), [(SPACE, 0), ({}, 1)])
def test_models_of_slices_see_no_pictures(header: dict[str, Any], neighbours: int):
    with pytest.raises(UserError, match="expected a volume, of which this model sees slices"):
        look((9, 8), False, header, neighbours=neighbours)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_file_of_one_slice_is_not_segmented_transposed(
    suffix: str, trained: Path, tmp_path: Path
):
    """By a model that was trained on PNG: its rows would be the file's columns."""
    array = np.random.default_rng(0).integers(0, 255, (1, 40, 32)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"a{suffix}"))
    done = predict(trained, [tmp_path / f"a{suffix}"], tmp_path / "out", Sampling(votes=2))
    assert not done.done
    (why,) = done.failed.values()
    assert "it is a volume of shape (32, 40, 1). Save its slice as a picture" in why


def test_a_slice_out_of_a_volume_is_not_either(trained: Path, tmp_path: Path):
    array = np.random.default_rng(0).normal(size=(32, 40, 9)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([-1, -1, 3, 1])).slicer[:, :, 4:5], tmp_path / "a.nii")
    (why,) = predict(trained, [tmp_path / "a.nii"], tmp_path / "out").failed.values()
    assert "expected a picture, whose axes are rows and columns" in why
