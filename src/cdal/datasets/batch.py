"""A batch of cases, as it passes from the data to a segmenter."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Cases as the segmenter sees them in training.

    Attributes:
        image: `[B, C, *S]`, normalised.
        label: `[B, *S]`, whole numbers from 0 (background) to K - 1.
        cases: the B names, for messages.
    """

    image: Tensor
    label: Tensor
    cases: tuple[str, ...]
