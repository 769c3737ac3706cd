"""Cases in memory, and settings under which nothing moves."""

from __future__ import annotations

import torch

from cdal.datasets.cases import Case
from cdal.recipes.recipe import DataSettings

STILL = DataSettings(size=(8, 8, 8), rotation=0, scaling=0, shift=0, intensity=0)


def make_case(name: str, shape: tuple[int, ...] = (12, 10, 8), raters: int = 1) -> Case:
    generator = torch.Generator().manual_seed(len(name))
    image = torch.randn(1, *shape, generator=generator)
    return Case(
        name, image, torch.randint(3, (raters, *shape), generator=generator, dtype=torch.uint8)
    )
