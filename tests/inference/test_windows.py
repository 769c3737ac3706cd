"""Windows over large images, blended as MONAI blends them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from cdal.inference.windows import blend
from cdal.recipes.recipe import DataSettings


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    ("shape", "size"), [((37, 70), (16, 16)), ((33, 16, 21), (16, 16, 16)), ((16, 40), (16, 24))]
)
def test_windows_are_blended_as_monai_blends_them(
    overlap: float, shape: tuple[int, ...], size: tuple[int, ...]
):
    """With a network whose answer depends on where in the window a voxel lies."""
    place = np.random.default_rng(0).normal(size=size).astype(np.float32)
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    data = DataSettings(spatial_dims=len(shape), size=size, overlap=overlap)
    bands = blend(
        lambda x: np.stack([x * place, x + place]), lambda a, b: image[:, a:b], shape, data
    )
    found = np.concatenate([band.copy() for band in bands], axis=2)
    mode = "gaussian" if overlap else "constant"
    there = torch.from_numpy(place)
    for vote, network in zip(found, (lambda x: x * there, lambda x: x + there), strict=True):
        expected = sliding_window_inference(
            torch.from_numpy(image[None]), size, 1, network, overlap=overlap, mode=mode
        )
        np.testing.assert_allclose(vote, expected[0].numpy(), rtol=1e-3, atol=1e-4)
