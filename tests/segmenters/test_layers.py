"""Networks with instance normalisation keep their function and their weights, however it is
computed.
"""

from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from cdal.segmenters.build import build_segmenter
from cdal.segmenters.layers import group_instances
from helpers.systems import small

INSTANCES = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def channels_alone(network: nn.Module) -> list[nn.GroupNorm]:
    """Group normalisations whose groups are single channels."""
    return [
        m
        for m in network.modules()
        if isinstance(m, nn.GroupNorm) and m.num_groups == m.num_channels > 1
    ]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("affine", [False, True])
def test_the_network_computes_what_it_did(dims: int, affine: bool, rng: torch.Generator):
    norm = ("instance", {"affine": affine})
    network = DynUNet(
        dims,
        1,
        3,
        [3] * 3,
        [1, 2, 2],
        [2, 2],
        filters=[6, 8, 10],
        norm_name=norm,
        deep_supervision=False,
    ).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2, generator=rng)
    before, image = copy.deepcopy(network), torch.randn(2, 1, *[16] * dims, generator=rng)
    group_instances(network)
    assert channels_alone(network)
    assert not any(isinstance(module, INSTANCES) for module in network.modules())
    assert list(network.state_dict()) == list(before.state_dict())
    torch.testing.assert_close(network(image), before(image), rtol=1e-3, atol=1e-4)


def test_running_statistics_are_left_alone():
    network = nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True))
    group_instances(network)
    assert isinstance(network[0], nn.InstanceNorm2d)


@pytest.mark.parametrize(
    "system", ["unet", "unetpp", "msu-net", "res-unet", "dynunet", "cdal", "cdal-unet"]
)
def test_every_system_normalises_instances_in_groups_of_one_channel(system: str):
    segmenter = build_segmenter(small("phantoms", system), 1, 2, training=True)
    assert channels_alone(segmenter)
    assert not any(isinstance(module, INSTANCES) for module in segmenter.modules())
