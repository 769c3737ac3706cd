"""From an image's own grid to the network's and back, against MONAI and PyTorch."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Orientation, Spacing, SpatialResample

from cdal.imaging.grid import (
    Frame,
    corners_apart,
    label_to_grid,
    off_grid,
    resized,
    same_grid,
    to_grid,
    turned_to,
)
from cdal.imaging.image import Image
from cdal.recipes.recipe import DataSettings
from cdal.runtime import memory
from cdal.runtime.errors import UserError
from helpers.files import affines, ball


def brought_back(frame: Frame, values: np.ndarray) -> np.ndarray:
    """Values on the network's grid on the image's own."""
    return frame.straight(np.concatenate(list(frame.back([values])), axis=1))


@given(
    affines(),
    st.tuples(*[st.integers(16, 24)] * 3),
    st.sampled_from([None, (1.0, 1.0, 1.0), (1.3, 0.9, 1.1)]),
)
@settings(max_examples=25)
def test_what_goes_to_the_network_comes_back_in_its_place(
    affine: np.ndarray, shape: tuple[int, ...], spacing
):
    truth = ball(shape, affine)
    image = Image(truth[None].astype(np.float32), affine)
    frame = Frame(image, DataSettings(spacing=spacing))
    back = brought_back(frame, frame.read(0, frame.shape[0]))[0]
    assert back.shape == shape
    if spacing is None:
        np.testing.assert_allclose(back, truth, atol=1e-3)
    else:
        kept = back > 0.5
        assert 2 * (kept & truth).sum() / (kept.sum() + truth.sum()) > 0.85


@given(affines())
@settings(max_examples=15)
def test_the_networks_axes_are_nearest_to_right_anterior_superior(affine: np.ndarray):
    """Each voxel holds its millimetres to the right, to the front and upwards, which grow along the
    axes.
    """
    index = np.stack(np.meshgrid(*map(np.arange, (6, 7, 8)), indexing="ij"))
    places = (np.tensordot(affine[:3, :3], index, 1) + affine[:3, 3].reshape(3, 1, 1, 1)).astype(
        np.float32
    )
    grid = to_grid(Image(places, affine), DataSettings()).array
    steps = np.array([[np.diff(grid[i], axis=k).mean() for k in range(3)] for i in range(3)])
    assert (np.abs(steps).argmax(axis=0) == np.arange(3)).all()
    assert (np.diag(steps) > 0).all()


@given(
    affines(),
    st.tuples(*[st.integers(6, 14)] * 3),
    st.sampled_from([None, (1.0, 1.0, 1.0), (1.3, 0.9, 2.1)]),
)
@settings(max_examples=25)
def test_the_networks_grid_is_that_of_monai(affine: np.ndarray, shape: tuple[int, ...], spacing):
    values = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    image = Image(values, affine)
    grid = to_grid(image, DataSettings(spacing=spacing)).array
    expected = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(
        MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(affine))
    )
    if spacing is not None:
        steps = (np.array(expected.shape[1:]) - 1) * expected.pixdim.numpy() / spacing
        assume((np.abs(steps % 1 - 0.5) > 1e-6).all())  # half a voxel may be rounded either way
        own = expected.pixdim.numpy()  # a spacing that differs by a thousandth is left as it is
        assume(np.array_equal(own, spacing) or not np.allclose(own, spacing, rtol=2e-3))
        expected = Spacing(
            pixdim=spacing, mode="bilinear", padding_mode="border", dtype=np.float64
        )(expected)
    np.testing.assert_allclose(grid, expected.numpy(), atol=1e-3)
    back = SpatialResample(
        mode="bilinear", padding_mode="border", align_corners=True, dtype=np.float64
    )(
        MetaTensor(torch.from_numpy(np.ascontiguousarray(grid)), affine=expected.affine),
        dst_affine=torch.from_numpy(affine),
        spatial_size=shape,
    )
    np.testing.assert_allclose(
        brought_back(Frame(image, DataSettings(spacing=spacing)), grid), back.numpy(), atol=1e-3
    )


@pytest.mark.parametrize("size", [(20, 31), (97, 64), (50, 50)])
def test_pictures_are_resized_as_pytorch_does(size: tuple[int, int], rng: torch.Generator):
    values = torch.randn(2, 50, 70, generator=rng)
    expected = torch.nn.functional.interpolate(
        values[None], size, mode="bilinear", antialias=True, align_corners=False
    )[0]
    np.testing.assert_allclose(resized(values.numpy(), size), expected.numpy(), atol=1e-4)


def test_labels_are_resampled_as_probabilities():
    """A one-voxel gap between two classes does not become a third class in between, and half a
    voxel does not vanish.
    """
    label = np.zeros((1, 12, 12, 12), np.uint8)
    label[0, :6], label[0, 6:] = 1, 3
    moved = label_to_grid(Image(label, np.eye(4)), 4, DataSettings(spacing=(0.7, 0.7, 0.7)))
    assert set(np.unique(moved).tolist()) == {1, 3}


def test_noise_in_a_header_changes_no_shape():
    """Half the spacing and an even size end at half a voxel, where rounding would decide."""
    half = DataSettings(spacing=(1.0, 1.0, 1.0))
    image = Image(np.zeros((1, 48, 48, 32), np.float32), np.diag([0.5, 0.5, 0.5, 1]))
    shape = to_grid(image, half).array.shape[1:]
    assert shape == (24, 24, 16)
    for noise in (1e-6, -1e-6, 1e-9):
        affine = np.diag([0.5 * (1 + noise)] * 3 + [1])
        assert label_to_grid(Image(image.array, affine), 2, half).shape == shape


@given(affines(), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
@settings(max_examples=25)
def test_labels_with_other_axes_are_turned_to_their_image(
    affine: np.ndarray, order: list[int], flipped: tuple[bool, ...]
):
    """nibabel turns them; rounding in the header does no harm."""
    values = np.arange(6 * 7 * 8, dtype=np.float32).reshape(6, 7, 8)
    turn = np.array([[axis, -1 if flip else 1] for axis, flip in zip(order, flipped, strict=True)])
    file = nib.Nifti1Image(values, affine).as_reoriented(turn)
    label = Image(np.asarray(file.dataobj)[None], file.affine + 1e-4)
    turned = turned_to(label, Image(values[None], affine))
    np.testing.assert_array_equal(turned.array[0], values)
    np.testing.assert_array_equal(turned.affine, affine)


def test_how_far_a_label_lies_off_its_image():
    """A share of a voxel, at the corners: also for voxels of some micrometres."""
    shape = (1, 10, 20, 30)
    for voxel in (0.005, 1.0, 100.0):
        image = Image(np.zeros(shape), np.diag([voxel] * 3 + [1]))
        shifted = image.affine.copy()
        shifted[2, 3] = 0.4 * voxel
        assert corners_apart(Image(np.zeros(shape), shifted), image) == pytest.approx(0.4)
        assert same_grid(Image(np.zeros(shape), shifted), image)
        longer = np.diag([voxel, voxel, voxel * 1.02, 1])  # 29 steps of 2 % of a voxel
        assert corners_apart(Image(np.zeros(shape), longer), image) == pytest.approx(0.58)
        assert not same_grid(Image(np.zeros(shape), longer), image)
        twice = Image(np.zeros(shape), np.diag([2 * voxel] * 3 + [1]))
        assert "corners are up to 29 voxels apart" in off_grid(twice, image)
    left = Image(np.zeros(shape), np.diag([-1.0, 1, 1, 1]))
    assert "LAS, those of the other RAS" in off_grid(left, Image(np.zeros(shape), np.eye(4)))


@pytest.mark.parametrize("spacing", [(2097152.5,) * 3, (10000.0, 1.0, 2.0), (0.5, 449407.0, 1)])
def test_a_spacing_in_another_unit_is_named(spacing: tuple[float, ...]):
    image = Image(np.zeros((1, 8, 10, 12), np.float32), np.diag([*spacing, 1.0]))
    with pytest.raises(UserError, match=rf"{max(spacing)}.*in millimetres"):
        Frame(image, DataSettings(spacing=(1.0, 1.0, 1.0)), "a.mha")


def test_a_grid_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1_000_000)
    image = Image(np.zeros((1, 20, 20, 20), np.float32), np.eye(4))
    Frame(image, DataSettings(spacing=(1.0, 1.0, 1.0)))
    with pytest.raises(UserError, match=r"memory.*millimetres"):
        Frame(image, DataSettings(spacing=(0.1, 0.1, 0.1)), "a.mha")


def test_pictures_are_resized_and_come_back():
    y, x = np.mgrid[:90, :120]
    truth = (np.hypot(y - 45, x - 60) < 30).astype(np.uint8)
    settings_ = DataSettings(spatial_dims=2, size=(48, 64), resize=(48, 64))
    frame = Frame(Image(100.0 * truth[None].astype(np.float32)), settings_)
    grid = frame.read(0, 48)
    assert grid.shape == (1, 48, 64)
    back = brought_back(frame, grid / 100)[0] > 0.5
    assert 2 * (back & (truth > 0)).sum() / (back.sum() + truth.sum()) > 0.98
    label = label_to_grid(Image(truth[None]), 2, settings_)
    assert label.mean() == pytest.approx(truth.mean(), rel=0.02)
