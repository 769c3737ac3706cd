"""Augmentation: what moves, what stays, and that a batch is its images one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.color import rgb_from_hed

from cdal.imaging.augment import augment
from cdal.recipes.recipe import DataSettings
from helpers.cases import STILL, make_case


def augment_one(
    image: torch.Tensor, label: torch.Tensor, settings_: DataSettings, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = augment([image], [label[None]], [label], settings_, [rng])
    return images[0], labels[0, 0]


def test_patches_of_a_batch_are_those_of_its_images_alone():
    """Images of different sizes are moved in one call, and each as if it were alone."""
    settings_ = DataSettings(size=(12, 16, 12), flips=(0, 1), intensity=0.5)
    cases = [
        make_case("a", (20, 18, 22)),
        make_case("bb", (10, 30, 13)),
        make_case("ccc", (12, 16, 12)),
    ]
    rngs = [[torch.Generator().manual_seed(seed) for seed in range(3)] for _ in range(2)]
    images, labels = augment(
        [case.image for case in cases],
        [case.labels for case in cases],
        [case.labels[0] for case in cases],
        settings_,
        rngs[0],
    )
    for case, rng, image, label in zip(cases, rngs[1], images, labels[0], strict=True):
        alone, alone_label = augment_one(case.image, case.labels[0], settings_, rng)
        torch.testing.assert_close(image, alone, rtol=1e-3, atol=1e-3)
        assert (label == alone_label).float().mean() > 0.999  # a tie may fall either way


def test_without_augmentation_a_patch_is_the_centre(rng: torch.Generator):
    case = make_case("a")
    still = replace(STILL, size=(12, 10, 8))
    image, label = augment_one(case.image, case.labels[0], still, rng)
    torch.testing.assert_close(image, case.image, rtol=1e-4, atol=1e-4)
    assert torch.equal(label, case.labels[0].long())


def test_beyond_the_edge_the_image_repeats_and_the_label_is_background(rng: torch.Generator):
    image, label = torch.full((1, 4, 4, 4), 5.0), torch.full((4, 4, 4), 2, dtype=torch.uint8)
    wide, wide_label = augment_one(image, label, STILL, rng)
    torch.testing.assert_close(wide, torch.full((1, 8, 8, 8), 5.0))
    assert int((wide_label == 2).sum()) == 64
    assert torch.equal(wide_label[2:6, 2:6, 2:6], torch.full((4, 4, 4), 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_image_and_label_move_together(dims: int):
    """The label of a smooth blob, moved, is where the moved image is bright."""
    settings_ = DataSettings(
        spatial_dims=dims,
        size=(32,) * dims,
        flips=tuple(range(dims)),
        rotation=30,
        scaling=0.2,
        shift=3,
        intensity=0,
    )
    axes = torch.meshgrid(*[torch.arange(36.0)] * dims, indexing="ij")
    blob = (
        10
        - sum((axis - centre) ** 2 for axis, centre in zip(axes, (12, 20, 17), strict=False)).sqrt()
    )
    for seed in range(5):
        image, label = augment_one(
            blob[None], (blob > 0).byte(), settings_, torch.Generator().manual_seed(seed)
        )
        bright, marked = image[0] > 0, label > 0
        assert 2 * (bright & marked).sum() / (bright.sum() + marked.sum()) > 0.95


def test_stains_change_along_their_own_directions(rng: torch.Generator):
    """In scikit-image's own unmixing of stains, a jitter is a linear map of each stain's amount;
    white may take a tint, no more.
    """
    rgb = np.random.default_rng(0).uniform(0.2, 0.9, size=(24, 24, 3))
    settings_ = DataSettings(
        spatial_dims=2,
        size=(24, 24),
        intensities="range",
        rotation=0,
        scaling=0,
        shift=0,
        intensity=0,
        stain=1.0,
    )
    image = torch.from_numpy(np.moveaxis(rgb, -1, 0)).float() * 4 - 2
    moved, _ = augment_one(image, torch.zeros(24, 24, dtype=torch.uint8), settings_, rng)
    after = np.moveaxis(((moved + 2) / 4).numpy(), 0, -1)
    whole = ((after > 0.005) & (after < 0.995)).all(axis=-1)  # not clipped
    assert whole.mean() > 0.8
    assert np.abs(after - rgb).max() > 0.02
    inverse = np.linalg.inv(rgb_from_hed)
    before_amounts, after_amounts = (-np.log(x[whole]) @ inverse for x in (rgb, after))
    for k in range(3):
        slope, offset = np.polyfit(before_amounts[:, k], after_amounts[:, k], 1)
        assert 0.74 < slope < 1.26
        np.testing.assert_allclose(
            after_amounts[:, k], slope * before_amounts[:, k] + offset, atol=2e-2
        )


def test_beyond_a_narrow_field_it_is_dark_and_the_foreground_lies_within(rng: torch.Generator):
    image = torch.randn(1, 40, 32, generator=rng).exp()
    label = torch.zeros(40, 32, dtype=torch.int64)
    label[12:25, 8:20] = 1
    settings_ = replace(STILL, spatial_dims=2, size=(40, 32), collimation=1.0)
    for seed in range(20):
        seen, moved = augment_one(image, label, settings_, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(moved, label)
        assert float(seen.mean()) == pytest.approx(0, abs=1e-5)
        assert float(seen.std()) == pytest.approx(1, abs=1e-4)
        level = seen[0, 0, 0] if (seen[0, 0] == seen[0, 0, 0]).all() else seen[0, -1, -1]
        field = (seen[0] != level).nonzero()
        inside = tuple(
            slice(int(field[:, axis].min()), int(field[:, axis].max()) + 1) for axis in range(2)
        )
        assert label[inside].sum() == label.sum()
        assert seen[0][inside].numel() < image.numel()
        # Within it is the image, brighter or darker as a whole; beyond it as dark as the foreground
        # at most.
        assert np.corrcoef(seen[0][inside].flatten(), image[0][inside].flatten())[
            0, 1
        ] == pytest.approx(1, abs=1e-5)
        assert seen.min() - 1e-5 <= level <= seen[0][label > 0].mean()
    never, _ = augment_one(image, label, replace(settings_, collimation=0.0), rng)
    torch.testing.assert_close(never, image, rtol=1e-3, atol=1e-3)


def test_some_patches_are_centred_on_the_foreground():
    label = torch.zeros(200, 200, dtype=torch.uint8)
    label[150:153, 20:23] = 2
    image = torch.randn(1, 200, 200)
    settings_ = DataSettings(spatial_dims=2, size=(32, 32), shift=0, foreground=0.5)
    hits = [
        bool(
            (
                augment_one(image, label, settings_, torch.Generator().manual_seed(seed))[1] == 2
            ).any()
        )
        for seed in range(100)
    ]
    assert 0.35 < np.mean(hits) < 0.75


def test_a_patch_of_a_large_image_is_that_of_the_whole():
    """What lies out of a patch's reach is left out before it is moved; SciPy on the whole image
    gives the same patch.
    """
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(300, 280)), 2).astype(
        np.float32
    )
    settings_ = DataSettings(
        spatial_dims=2, size=(32, 40), rotation=45, scaling=0.25, shift=5, intensity=0
    )
    for seed in range(10):
        rng = torch.Generator().manual_seed(seed)
        patch, _ = augment_one(
            torch.from_numpy(image)[None],
            torch.zeros(image.shape, dtype=torch.uint8),
            settings_,
            rng,
        )
        rng = torch.Generator().manual_seed(seed)  # the same draws again: rotation, size, place
        turn, size, *place = (2 * float(torch.rand((), generator=rng)) - 1 for _ in range(4))
        move = [p * ((s - w) / 2 + 5) for p, s, w in zip(place, image.shape, (32, 40), strict=True)]
        turn, size = turn * np.pi / 4, 1 + 0.25 * size
        y, x = np.mgrid[:32, :40] - np.array([15.5, 19.5])[:, None, None]
        rows = size * (np.cos(turn) * y - np.sin(turn) * x) + 149.5 + move[0]
        columns = size * (np.sin(turn) * y + np.cos(turn) * x) + 139.5 + move[1]
        expected = ndimage.map_coordinates(image, [rows, columns], order=1, mode="nearest")[None]
        np.testing.assert_allclose(patch.numpy(), np.asarray(expected), atol=2e-3)
