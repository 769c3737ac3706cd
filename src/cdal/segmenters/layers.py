"""Replace layers by faster ones that compute the same function."""

from __future__ import annotations

from typing import Any

from torch import nn


def group_instances(network: nn.Module) -> None:
    """Replace all instance normalisation by group normalisation with one channel per group.

    The function, the weights and their names stay the same. On a CPU, group normalisation is two to
    six times as fast, so no system is slower than necessary. Instance normalisation with running
    statistics is kept, because it computes another function in evaluation.
    """
    replaced: dict[nn.Module, nn.GroupNorm] = {}  # a layer may have several parents
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if (
                not isinstance(child, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))
                or child.track_running_stats
            ):
                continue
            if child not in replaced:
                replaced[child] = _grouped(child)
            parent._modules[name] = replaced[child]


def _grouped(norm: Any) -> nn.GroupNorm:
    grouped = nn.GroupNorm(norm.num_features, norm.num_features, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        grouped.weight, grouped.bias = norm.weight, norm.bias
    return grouped
