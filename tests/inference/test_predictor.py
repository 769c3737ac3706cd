"""The predictor: images of any size, band after band, and arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

import cdal
from cdal.datasets.folder import open_folder
from cdal.imaging.grid import resized
from cdal.imaging.image import Image
from cdal.imaging.intensities import normalise
from cdal.inference.decision import decide, spread
from cdal.inference.load import load
from cdal.inference.predictor import Predictor, array_of
from cdal.inference.sampling import Sampling
from cdal.inference.torch_engine import TorchEngine
from cdal.inference.voting import draw_votes
from cdal.recipes.cdal import ImageUNetSettings
from cdal.recipes.recipe import DataSettings, Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import save_model
from cdal.segmenters.model_header import ModelHeader
from helpers.files import SHAPE, volume
from helpers.recipes import small_recipe
from helpers.segmenters import bright_predictor

CLASSES = ("background", "a", "b")


def predictor(**data: object) -> Predictor:
    """A network without chance, with random weights."""
    recipe = Recipe(
        "x",
        DataSettings(**{"channels": 1, "whole": 1.0, **data}),
        ImageUNetSettings(channels=(4, 8, 8)),
    )
    torch.manual_seed(0)
    engine = TorchEngine(build_segmenter(recipe, 1, 3).eval(), recipe)
    return Predictor(engine, ModelHeader(recipe, CLASSES, 1), recipe, Sampling(votes=2))


KINDS = {
    "a volume in windows": {"size": (16, 16, 16)},
    "a volume at another spacing": {"size": (16, 16, 16), "spacing": (1.3, 0.8, 1.0)},
    "a coarser volume in one piece": {
        "size": (16, 16, 16),
        "spacing": (3.0, 3.0, 3.0),
        "whole": 4.0,
    },
    "slices with neighbours": {
        "spatial_dims": 2,
        "size": (16, 16),
        "neighbours": 1,
        "slice_axis": 1,
        "spacing": (1.1, 1.4, 0.9),
    },
    "slices in one piece": {"spatial_dims": 2, "size": (16, 16), "slice_axis": 2, "whole": 3.0},
}
AFFINES = {
    "straight": np.diag([1.0, 1.0, 1.0, 1.0]),
    "oblique": np.array(
        [[0.1, -1.1, 0.2, 30.0], [1.0, 0.1, 0.1, -20.0], [0, 0.15, -1.2, 12.0], [0, 0, 0, 1]]
    ),
    "none": None,
}
SMALLER, LARGER = (25, 19, 22), (37, 30, 26)


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("kind", KINDS)
def test_bands_of_any_height_are_the_whole_volume(kind: str, affine: str):
    """The same probabilities and spread to 1e-5, and so the same mask, as when the whole is
    resampled at once.
    """
    ours = predictor(**KINDS[kind], flips=(1,), mirror_votes=True)
    image = Image(
        np.random.default_rng(0).normal(size=(1, *SMALLER)).astype(np.float32), AFFINES[affine]
    )
    whole = ours.predict(image, "x")
    assert whole.uncertainty.max() > 0
    for rows in (1, 2, 7, 100):
        frame = ours.frame(image, "x")
        bands = list(ours.bands(frame, "x", "x", rows=rows))
        assert all(band.uncertainty.shape[0] <= rows for band in bands)
        for name, axis in (("probability", 1), ("uncertainty", 0)):
            joined = frame.straight(
                np.concatenate([getattr(band, name) for band in bands], axis=axis)
            )
            np.testing.assert_allclose(joined, getattr(whole, name), atol=1e-5)
        mask = frame.straight(np.concatenate([decide(band.probability) for band in bands]))
        sure = np.abs(np.diff(np.sort(whole.probability, axis=0)[1:], axis=0)[0]) > 1e-5
        np.testing.assert_array_equal(mask[sure], whole.mask[sure])


@pytest.mark.parametrize("affine", AFFINES)
def test_a_volume_lands_where_nibabel_says(affine: str):
    """What is bright becomes class 1 of a network that looks at brightness alone: in place,
    whatever the axes and the spacing.
    """
    ours = bright_predictor(DataSettings(spacing=(1.0, 1.0, 1.0), size=(64, 64, 64), channels=1))
    array = np.zeros((1, *LARGER), np.float32)
    array[:, 5:20, 8:14, 3:9] = 100
    found = ours.predict(Image(array, AFFINES[affine])).mask
    np.testing.assert_array_equal(found[7:18, 10:12, 5:7], 1)
    assert (found != (array[0] > 50)).mean() < 0.02


@given(height=st.integers(20, 90), width=st.integers(20, 60), rows=st.integers(1, 100))
@settings(max_examples=15)
def test_a_picture_seen_whole_comes_back_the_same_in_bands_of_any_height(
    height: int, width: int, rows: int
):
    ours = predictor(spatial_dims=2, size=(32, 32), resize=(32, 32))
    image = Image(np.random.default_rng(0).normal(size=(1, height, width)).astype(np.float32))
    frame = ours.frame(image, "x")
    grid: list[np.ndarray] = []
    bands = list(ours.bands(frame, "x", "x", rows=rows, on_grid=grid))
    (mean,) = grid
    np.testing.assert_allclose(
        np.concatenate([band.probability for band in bands], axis=1),
        resized(mean, (height, width)),
        atol=1e-5,
    )


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("shape", [(32, 32), (97, 64), (70, 131), (20, 80), (80, 20)])
@pytest.mark.parametrize("intensities", ["range", "image"])
def test_a_picture_in_bands_is_as_its_votes_in_one_piece(
    overlap: float, shape: tuple[int, int], intensities: str
):
    ours = predictor(
        spatial_dims=2,
        size=(32, 32),
        overlap=overlap,
        intensities=intensities,
        flips=(1,),
        mirror_votes=True,
    )
    picture = Image(
        np.random.default_rng(0).integers(0, 255, size=(1, *shape)).astype(np.float32),
        stored=np.dtype(np.uint8),
    )
    bands = list(ours.bands(ours.frame(picture, "x"), "x", "x", rows=9))
    values = normalise(picture.array, intensities, picture.stored, "x")
    votes = draw_votes(ours.engine, values, ours.recipe, 2, None)
    np.testing.assert_allclose(
        np.concatenate([band.probability for band in bands], axis=1),
        votes.mean(axis=0),
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        np.concatenate([band.uncertainty for band in bands]), spread(votes), rtol=1e-4, atol=1e-5
    )


def test_arrays_that_would_be_misread_are_refused(trained: Path, tmp_path: Path):
    with pytest.raises(UserError, match="channels first"):
        load(trained).predict(np.zeros((32, 32, 3)))
    settings = replace(
        small_recipe(),
        data=DataSettings(spatial_dims=2, size=(32, 32), resize=(32, 32), intensities="range"),
    )
    segmenter = build_segmenter(settings, 1, 2)
    save_model(
        tmp_path / "r.safetensors",
        segmenter.generator.state_dict(),
        ModelHeader(settings, ("background", "a"), 1),
    )
    predictor = load(tmp_path / "r.safetensors")
    picture = np.random.default_rng(0).integers(0, 255, size=(40, 50))
    with pytest.raises(UserError, match="expected uint8"):
        predictor.predict(picture)
    assert predictor.predict(picture.astype(np.uint8)).mask.shape == (40, 50)
    assert predictor.predict(picture / 255).mask.shape == (40, 50)
    with pytest.raises(UserError, match="sees whole"):
        predictor.predict(np.zeros((40, 50, 20), np.uint8))


def test_the_class_is_decided_after_resampling(volume_model: Path, tmp_path: Path):
    prediction = load(volume_model, Sampling(votes=4)).predict(
        volume(tmp_path / "a.nii.gz"), keep_votes=True
    )
    np.testing.assert_array_equal(prediction.mask, prediction.probability.argmax(axis=0))
    np.testing.assert_allclose(prediction.votes.mean(axis=0), prediction.probability, atol=1e-5)
    np.testing.assert_allclose(prediction.probability.sum(axis=0), 1, atol=1e-4)
    assert prediction.uncertainty.max() > 0


def test_the_same_volume_in_another_orientation_gets_the_same_mask(
    volume_model: Path, tmp_path: Path
):
    """Stored axes are permuted and flipped; the voxels and their places are the same, and so is the
    answer.
    """
    first = nib.load(volume(tmp_path / "a.nii.gz", affine=np.diag([1.0, 1.0, 1.0, 1.0])))
    turned = first.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "b.nii.gz")
    predictor = load(volume_model, Sampling(seed=3))
    here = predictor.predict(tmp_path / "a.nii.gz", case="x").probability
    there = predictor.predict(tmp_path / "b.nii.gz", case="x").probability
    back = np.stack(
        [
            np.asarray(
                nib.Nifti1Image(p, turned.affine)
                .as_reoriented(
                    nib.orientations.ornt_transform(
                        nib.io_orientation(turned.affine), nib.io_orientation(first.affine)
                    )
                )
                .dataobj
            )
            for p in there
        ]
    )
    np.testing.assert_allclose(back, here, atol=1e-3)


def test_arrays_are_images_too(volume_model: Path, trained: Path):
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    assert cdal.load(volume_model).predict(array).mask.shape == SHAPE
    picture = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    prediction = cdal.load(trained, Sampling(votes=8)).predict(picture)
    assert prediction.mask.shape == (40, 30)
    np.testing.assert_array_equal(
        cdal.load(trained, Sampling(votes=8)).predict(picture[None]).mask, prediction.mask
    )


def test_a_seed_repeats_and_another_does_not(volume_model: Path, tmp_path: Path):
    source = volume(tmp_path / "a.nii.gz")
    first, again, other = (
        load(volume_model, Sampling(seed=seed)).predict(source).probability for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


@pytest.mark.parametrize("mode", ["P", "LA"])
def test_a_picture_is_the_same_in_every_mode(
    mode: str, trained: Path, phantoms: Path, tmp_path: Path
):
    gray = Pillow.open(open_folder(phantoms).cases[0].image)
    if mode == "LA":
        gray.convert("LA").save(tmp_path / "a.png")
    else:
        order = np.random.default_rng(0).permutation(256)
        indices = Pillow.fromarray(np.argsort(order).astype(np.uint8)[np.asarray(gray)], mode="P")
        indices.putpalette(np.repeat(order.astype(np.uint8), 3).tobytes())
        indices.save(tmp_path / "a.png")
    predictor = load(trained)
    expected = predictor.predict(open_folder(phantoms).cases[0].image, case="x").probability
    np.testing.assert_allclose(
        predictor.predict(tmp_path / "a.png", case="x").probability, expected, atol=1e-5
    )


def test_a_spacing_in_the_wrong_unit_is_refused(volume_model: Path, tmp_path: Path):
    path = volume(tmp_path / "a.nii.gz", affine=np.diag([80.0, 80.0, 80.0, 1.0]))
    with pytest.raises(UserError, match="millimetres"):
        load(volume_model).predict(path)


@pytest.mark.parametrize("kind", ["complex", "colour"])
def test_voxels_that_are_not_single_numbers_are_refused(
    kind: str, volume_model: Path, tmp_path: Path
):
    dtype = (
        np.dtype(np.complex64)
        if kind == "complex"
        else np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    )
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), dtype), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="one number a voxel"):
        load(volume_model).predict(tmp_path / "a.nii.gz")


def test_a_model_of_one_channel_refuses_three(trained: Path, tmp_path: Path):
    colours = np.random.default_rng(0).integers(256, size=(32, 32, 3)).astype(np.uint8)
    Pillow.fromarray(colours).save(tmp_path / "colour.png")
    with pytest.raises(UserError, match=r"expected 1 channel.* it has 3"):
        load(trained).predict(tmp_path / "colour.png")


def test_tensors_and_pillow_images_are_what_their_numbers_are(trained: Path):
    """Gray pictures, whatever they are given as, are segmented as the array."""
    model = load(trained, Sampling(votes=1))
    pixels = np.random.default_rng(0).integers(0, 255, (32, 40)).astype(np.uint8)
    expected = model.predict(pixels).probability
    wide = pixels.astype(np.uint16) * 256
    for source in (
        torch.from_numpy(pixels),
        torch.from_numpy(pixels)[None],
        torch.from_numpy(pixels).float().requires_grad_(),
        Pillow.fromarray(pixels),
        Pillow.fromarray(wide),
    ):
        np.testing.assert_allclose(model.predict(source).probability, expected, atol=1e-5)
    half = torch.from_numpy(pixels // 2 * 2).to(torch.bfloat16)
    assert model.predict(half).mask.shape == (32, 40)


def test_the_number_of_votes_can_be_that_of_one_image(trained: Path):
    """Three votes are the three votes of a predictor of three."""
    array = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    one, three = (load(trained, Sampling(votes=votes)) for votes in (1, 3))
    expected = three.predict(array, keep_votes=True)
    found = one.predict(array, keep_votes=True, votes=3)
    assert found.count == 3
    assert found.votes is not None
    np.testing.assert_array_equal(found.votes, expected.votes)
    with pytest.raises(UserError, match="votes must be 1 or more"):
        one.predict(array, votes=0)


def test_colours_of_a_pillow_image_come_first():
    colours = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(array_of(Pillow.fromarray(colours)), colours.transpose(2, 0, 1))


def turned() -> Pillow.Image:
    picture = Pillow.new("L", (8, 8))
    picture.getexif()[0x0112] = 6
    return picture


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Pillow.new("P", (8, 8)), "mode P"),
        (Pillow.new("RGBA", (8, 8)), "mode RGBA"),
        (Pillow.new("1", (8, 8)), "mode 1"),
        (turned(), "exif_transpose"),
        ([[1, 2], [3, 4]], "it is <class 'list'>"),
        (None, "NoneType"),
        (np.array([["a", "b"]]), "an array of <U1"),
        (np.ones((4, 4), complex), "an array of complex128"),
        (np.ones((0, 4)), "shape is"),
    ],
)
def test_what_could_mean_several_things_is_refused(source: object, message: str, trained: Path):
    with pytest.raises(UserError, match=message):
        load(trained, Sampling(votes=1)).predict(source)
