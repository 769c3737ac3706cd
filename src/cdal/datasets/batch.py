"""A batch of cases, the input of a segmenter in training."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """A batch of training cases.

    Attributes:
        image: normalised images, `[B, C, *S]`.
        label: classes from 0 (background) to K - 1, `[B, *S]`.
        cases: names of the B cases, for messages.
    """

    image: Tensor
    label: Tensor
    cases: tuple[str, ...]
