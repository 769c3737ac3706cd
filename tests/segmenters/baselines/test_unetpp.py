"""U-Net++ and its branches."""

from __future__ import annotations

import torch

from cdal.segmenters.build import build_segmenter
from helpers.systems import small


def test_unetpp_predicts_the_mean_of_its_four_branches(rng: torch.Generator):
    segmenter, image = (
        build_segmenter(small("phantoms", "unetpp"), 1, 2),
        torch.randn(2, 1, 32, 32, generator=rng),
    )
    with torch.no_grad():
        branches = segmenter.network.train()(image)
    assert len(branches) == 4
    expected = sum(branch.softmax(dim=1) for branch in branches) / 4
    torch.testing.assert_close(
        segmenter.eval().sample(image, 1, rng)[0], expected, atol=1e-5, rtol=1e-4
    )
