"""Intensities made alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdal.imaging.grid import to_grid
from cdal.imaging.image import Image
from cdal.imaging.intensities import is_gray, match_channels, normalise
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError


def test_normalisation_is_that_of_the_clipped_values(rng: torch.Generator):
    values = 1e6 * torch.rand(1, 10, 11, 12, generator=rng).exp()
    clipped = np.clip(values.numpy(), *np.percentile(values.numpy(), [0.5, 99.5])).astype(
        np.float64
    )
    expected = (clipped - clipped.mean()) / clipped.std()
    image = Image(values.numpy(), np.eye(4))
    np.testing.assert_allclose(
        normalise(to_grid(image, DataSettings()).array, "image", image.stored, "x"),
        expected,
        atol=1e-3,
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_range_means_the_same_in_every_image(kind: type):
    top = np.iinfo(kind).max
    dark = np.array([[[0.0, top / 2], [top / 4, top / 8]]])
    np.testing.assert_allclose(
        normalise(dark, "range", np.dtype(kind), "x"), [[[-2, 0], [-1, -1.5]]], atol=1e-5
    )


def test_gray_pictures_and_colours_meet():
    gray, colours = np.random.default_rng(0).integers(0, 255, size=(2, 3, 5, 6)).astype(np.float32)
    one = Image(gray[:1], stored=np.dtype(np.uint8))
    assert match_channels(one, 3, "x").array.shape == (3, 5, 6)
    alike = Image(
        gray[:1].repeat(3, axis=0) + np.array([0, 2, -2])[:, None, None], stored=np.dtype(np.uint8)
    )
    np.testing.assert_array_equal(match_channels(alike, 1, "x").array, alike.array[:1])
    with pytest.raises(UserError, match="turn it to gray"):
        match_channels(Image(colours, stored=np.dtype(np.uint8)), 1, "x")


def test_small_differences_are_gray_only_where_compression_may_cause_them():
    """In 16 bits, a dim object in one channel differs by less than JPEG may in 8 bits."""
    values = np.random.default_rng(0).integers(100, 140, (1, 16, 16)).repeat(3, axis=0)
    for kind in (np.uint16, np.int16, np.float32):
        image = Image(values.astype(np.float32), stored=np.dtype(kind))
        assert is_gray(image)
        image.array[1, 4:8, 4:8] += 1
        assert not is_gray(image)
    bright = np.arange(256.0).reshape(1, 16, 16).repeat(3, axis=0)
    bright[1] += 3
    assert is_gray(Image(bright.astype(np.float32), stored=np.dtype(np.uint8)))
    dim = np.zeros((3, 16, 16), np.float32)
    dim[1, 4:8, 4:8] = 3  # all that this picture shows
    assert not is_gray(Image(dim, stored=np.dtype(np.uint8)))


def test_a_channel_without_contrast_becomes_0_beside_others():
    values = np.random.default_rng(0).normal(50, 9, (3, 16, 17)).astype(np.float32)
    expected = normalise(values[:2], "image", np.dtype(np.uint8), "x")
    values[2] = 7
    found = normalise(values, "image", np.dtype(np.uint8), "x")
    np.testing.assert_array_equal(found[:2], expected)
    np.testing.assert_array_equal(found[2], 0)
    with pytest.raises(UserError, match="every voxel is 7"):
        normalise(values[2:], "image", np.dtype(np.uint8), "x")
