"""Settings of DynUNet, whose levels follow the rules of nnU-Net."""

from __future__ import annotations

from dataclasses import dataclass

from cdal.recipes.settings import DataSettings, SegmenterSettings, need

_DYNUNET_SMALLEST = 4
"""A DynUNet halves an axis only if at least this many voxels remain."""


@dataclass(frozen=True)
class DynUNetSettings(SegmenterSettings):
    """DynUNet.

    Attributes:
        features: features at full resolution.
    """

    name: str = "dynunet"
    features: int = 32

    @property
    def several_annotators(self) -> bool:
        """Always: the loss is the mean over the annotators."""
        return True

    def multiple(self, data: DataSettings) -> int:
        """The multiple for the axis that is halved most often."""
        poolings = zip(*kernels_and_strides(data)[1], strict=True)
        return max(2 ** list(axis).count(2) for axis in poolings)

    def check(self, data: DataSettings) -> None:
        """See `SegmenterSettings.check`."""
        super().check(data)
        need(self, "segmenter.features", lambda features: features >= 1, "1 or more")
        levels = len(kernels_and_strides(data)[1])
        need(
            data,
            "data.size",
            lambda _: levels >= 3,
            f"such that some axis can be halved twice and keep {_DYNUNET_SMALLEST} voxels "
            "(dynunet)",
        )


def kernels_and_strides(data: DataSettings) -> tuple[list[list[int]], list[list[int]]]:
    """Kernels and strides of each level of a DynUNet, by axis; the first level has stride 1.

    An axis along which voxels are at least twice as long as along the finest axis has kernel 1. It
    gets kernel 3 once halving the other axes has reduced this ratio below 2.
    """
    size = list(data.size)
    spacing = list(data.spacing or (1.0, 1.0, 1.0))
    if data.spatial_dims == 2:
        spacing = [s for axis, s in enumerate(spacing) if axis != data.slice_axis]
    kernel = [3 if length < 2 * min(spacing) else 1 for length in spacing]
    kernels, strides = [kernel], [[1] * len(size)]
    while divisible := [
        axis for axis, s in enumerate(size) if s >= 2 * _DYNUNET_SMALLEST and s % 2 == 0
    ]:
        shortest = min(spacing[axis] for axis in divisible)
        halved = [axis for axis in divisible if spacing[axis] < 2 * shortest]
        stride = [2 if axis in halved else 1 for axis in range(len(size))]
        size = [s // step for s, step in zip(size, stride, strict=True)]
        spacing = [length * step for length, step in zip(spacing, stride, strict=True)]
        kernel = [
            3 if k == 3 or length < 2 * min(spacing) else 1
            for k, length in zip(kernel, spacing, strict=True)
        ]
        strides.append(stride)
        kernels.append(kernel)
    return kernels, strides
