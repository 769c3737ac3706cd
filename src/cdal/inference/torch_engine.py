"""A segmenter in PyTorch behind the interface of inference: arrays in, votes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cdal.recipes.recipe import Recipe
from cdal.runtime.devices import repeatable, wants_bf16
from cdal.runtime.seeds import generator
from cdal.segmenters.segmenter import Segmenter, parameters

_AT_ONCE = 8
"""Batches of windows that a GPU computes together: it waits for its many small operations to be
launched. A processor takes as long for eight batches as for one of eight."""


class TorchEngine:
    """PyTorch behind `cdal.inference.engine.Engine`, in the precision of the training.

    Args:
        segmenter: the segmenter, in evaluation mode.
        recipe: its recipe, which decides precision and memory format.
    """

    def __init__(self, segmenter: Segmenter, recipe: Recipe) -> None:
        self.segmenter, self.stochastic, self.device = (
            segmenter,
            segmenter.stochastic,
            segmenter.device,
        )
        self.draws_apart = segmenter.draws_apart or not segmenter.stochastic
        self.at_once = 1 if self.device.type == "cpu" else _AT_ONCE
        self.recipe, self.parameters = recipe, parameters(segmenter)
        self.bf16 = wants_bf16(recipe.training.precision, self.device)
        # Channels last is faster for pictures; it is not for volumes, nor for training.
        self.memory_format = (
            torch.channels_last if recipe.data.spatial_dims == 2 else torch.contiguous_format
        )
        if recipe.data.spatial_dims == 2:
            segmenter.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def about(self) -> dict[str, Any]:
        """See `Engine.about`."""
        precision = "bf16" if self.bf16 else "float32"
        return {
            "device": str(self.device),
            "precision": precision,
            "threads": torch.get_num_threads(),
        }

    def generator(self, *keys: int | str) -> torch.Generator:
        """See `Engine.generator`."""
        return generator(*keys, device=self.device)

    def draw(self, size: Sequence[int], images: int, votes: int, rng: torch.Generator) -> list[Any]:
        """See `Engine.draw`."""
        if not self.stochastic:
            return [None] * images
        like = torch.empty((images, 1, *size), device=self.device)
        return self.segmenter.draw_apart(like, votes, rng)

    def sample(
        self,
        image: np.ndarray,
        votes: int,
        rng: torch.Generator,
        draws: Sequence[Any] | None = None,
    ) -> np.ndarray:
        """See `Engine.sample`."""
        seen = torch.from_numpy(np.ascontiguousarray(image)).to(
            self.device, memory_format=self.memory_format
        )
        with (
            repeatable(self.device),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16),
        ):
            drawn = (
                self.segmenter.sample(seen, votes, rng)
                if draws is None or not self.stochastic
                else self.segmenter.sample_drawn(seen, draws)
            )
        return drawn.float().cpu().numpy()
