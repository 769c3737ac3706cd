"""DynUNet, shaped as nnU-Net shapes it."""

from __future__ import annotations

import pytest
import torch

from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.baselines import dynunet
from cdal.segmenters.baselines.dynunet import DynUNetSettings


@pytest.mark.parametrize(
    ("size", "spacing", "multiple", "sizes", "kernels"),
    [
        (
            (40, 56, 40),
            (1, 1, 1),
            8,
            [(40, 56, 40), (20, 28, 20), (10, 14, 10), (5, 7, 5)],
            [(3, 3, 3)] * 4,
        ),
        (
            (64, 64, 16),
            (1, 1, 4),
            16,
            [(64, 64, 16), (32, 32, 16), (16, 16, 16), (8, 8, 8), (4, 4, 4)],
            [(3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3)],
        ),
        (
            (16, 64, 64),
            (4, 1, 1),
            16,
            [(16, 64, 64), (16, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4)],
            [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)],
        ),
        ((256, 256), None, 64, [(2**n, 2**n) for n in range(8, 1, -1)], [(3, 3)] * 7),
    ],
)
def test_dynunet_halves_axes_as_nnunet_does(
    size: tuple[int, ...],
    spacing: tuple[float, ...] | None,
    multiple: int,
    sizes: list[tuple[int, ...]],
    kernels: list[tuple[int, ...]],
):
    data, recipe = (
        DataSettings(spatial_dims=len(size), size=size, spacing=spacing),
        DynUNetSettings(),
    )
    assert recipe.multiple(data) == multiple
    with torch.device("meta"):
        segmenter = dynunet.build(recipe, data, 1, 3, training=True).train()
    inner = segmenter.network.network
    seen = []
    for block in (inner.input_block, *inner.downsamples, inner.bottleneck):
        block.register_forward_hook(
            lambda block, _, out: seen.append((out.shape, next(block.parameters()).shape[2:]))
        )
    outputs = segmenter.network(torch.empty(2, 1, *size, device="meta"))
    assert [shape[2:] for shape, _ in seen] == sizes
    assert [kernel for _, kernel in seen] == kernels
    most = 512 if len(size) == 2 else 320
    assert [shape[1] for shape, _ in seen] == [
        min(32 * 2**level, most) for level in range(len(sizes))
    ]
    assert len(outputs) > 1
    assert all(output.shape == (2, 3, *size) for output in outputs)


@pytest.mark.parametrize("size", [(8, 8), (12, 12), (8, 8, 8)])
def test_a_patch_too_small_for_dynunet_is_refused(size: tuple[int, ...]):
    with pytest.raises(UserError, match="can be halved twice"):
        DynUNetSettings().check(DataSettings(spatial_dims=len(size), size=size))


@pytest.mark.parametrize(
    ("size", "multiple"), [((16, 256), 64), ((64, 256), 64), ((256, 256, 16), 64)]
)
def test_a_short_axis_does_not_keep_dynunet_from_halving_the_others(
    size: tuple[int, ...], multiple: int
):
    """The shortest voxel is that of the axes which can still be halved, and a
    kernel of 3 stays so.
    """
    data = DataSettings(spatial_dims=len(size), size=size)
    assert DynUNetSettings().multiple(data) == multiple
    with torch.device("meta"):
        segmenter = dynunet.build(DynUNetSettings(), data, 1, 2, training=True)
    assert {
        p.shape[2:]
        for block in segmenter.network.network.downsamples
        for p in block.parameters()
        if p.dim() > 2
    } <= {
        (3,) * len(size),
        (1,) * len(size),
    }
