"""Volumes as pictures."""

from __future__ import annotations

import numpy as np
import torch

from cdal.imaging.slices import slices_with_neighbours


def test_slices_bring_their_neighbours(rng: torch.Generator):
    volume = torch.randn(1, 4, 5, 6, generator=rng)
    slices = torch.from_numpy(slices_with_neighbours(volume.numpy(), 2, 1, np.array([0, 3])))
    assert slices.shape == (2, 3, 4, 5)
    torch.testing.assert_close(slices[1], volume[0, :, :, 2:5].movedim(-1, 0))
    torch.testing.assert_close(slices[0, 0], volume[0, :, :, 0])
