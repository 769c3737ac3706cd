"""A batch of cases, the input of a segmenter in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """A batch of training cases.

    Attributes:
        image: normalised images, `[B, C, *S]`.
        label: classes from 0 (background) to K - 1 by one annotator, `[B, *S]`.
        cases: names of the B cases, for messages.
        others: classes by R - 1 further annotators, `[R - 1, B, *S]`; `None` for R = 1.
    """

    image: Tensor
    label: Tensor
    cases: tuple[str, ...]
    others: Tensor | None = None

    def labels(self) -> Tensor:
        """Classes by all R annotators, annotator after annotator, `[R * B, *S]`."""
        if self.others is None:
            return self.label
        return torch.cat([self.label, self.others.flatten(0, 1)])

    def per_annotator(self, x: Tensor, axis: int = 0) -> Tensor:
        """Repeat what belongs to the images for each annotator, to go with `labels`.

        Args:
            x: tensor with B entries along an axis.
            axis: this axis. It gets R * B entries, annotator after annotator.
        """
        if self.others is None:
            return x
        return torch.cat([x] * (1 + len(self.others)), dim=axis)

    def with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed, such as moved to a device."""
        others = None if self.others is None else change(self.others)
        return Batch(change(self.image), change(self.label), self.cases, others)
