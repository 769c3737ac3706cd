"""Training steps on a GPU, with and without recording."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from cdal.datasets.batch import Batch
from cdal.experiments.speed.timing import gigaflops, interleaved
from cdal.recipes import find_recipe
from cdal.recipes.recipe import Recipe
from cdal.runtime.devices import repeatable
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.segmenter import parameters
from cdal.training.steps import RecordedSteps, Steps


def classes_of(name: str) -> int:
    """Number of classes K of a recipe's own data, background included."""
    return 3 if name.startswith("hippocampus") else 2


def built(name: str, channels: int, device: str, training: bool = False) -> tuple[Any, Recipe]:
    """Build the segmenter of a recipe with random weights."""
    recipe = find_recipe(name)
    torch.manual_seed(0)
    return build_segmenter(recipe, channels, classes_of(name), training=training).to(device), recipe


class Training:
    """Training steps of a recipe on a batch of noise.

    Args:
        name: name of the recipe.
        shape: shape of a patch, `[C, *S]`.
        device: `cuda` or `cpu`.
    """

    def __init__(self, name: str, shape: tuple[int, ...], device: str) -> None:
        self.segmenter, recipe = built(name, shape[0], device, training=True)
        self.device, self.size = device, recipe.training.batch
        rng = np.random.default_rng(0)
        image = torch.from_numpy(rng.normal(size=(self.size, *shape)).astype(np.float32)).to(device)
        label = torch.from_numpy(
            rng.integers(classes_of(name), size=(self.size, *shape[1:])).astype(np.uint8)
        ).to(device)
        self.batch = Batch(image, label, ())
        self.every = getattr(recipe.segmenter, "discriminator_every", 1)
        """Number of steps in a round, in which each player has its turn."""

    def rounds(self, precision: Any, recorded: bool, exact: bool) -> Callable[[], None]:
        """A function that takes the steps of one round.

        Args:
            precision: precision of Lightning Fabric, for example `bf16-mixed`.
            recorded: whether to record the steps as CUDA graphs.
            exact: whether the results must be repeatable.
        """
        rate = torch.tensor(1e-4, device=self.device)
        optimisers: dict[str, torch.optim.Optimizer] = {
            player: torch.optim.Adam(
                network.parameters(), rate, fused=True, capturable=self.device == "cuda"
            )
            for player, network in self.segmenter.players().items()
        }
        fabric = Fabric(accelerator=self.device, devices=1, precision=precision)
        steps = (RecordedSteps if recorded else Steps)(self.segmenter, optimisers, 1.0, fabric)

        def call() -> None:
            with (
                repeatable(torch.device(self.device), gradients=True)
                if exact
                else torch.backends.cudnn.flags(enabled=True)
            ):
                for step in range(1, 1 + self.every):
                    steps(self.batch, (0, "turns", step), step)

        for _ in range(5 if recorded else 0):  # then every kind of step is recorded
            call()
        return call


def training_step(
    name: str, shape: tuple[int, ...], rounds: int, device: str, tiny: bool
) -> dict[str, Any]:
    """Time of a training step of all players in milliseconds, with and without CUDA graphs."""
    training = Training(name, shape, device)
    kinds: dict[str, tuple[Any, bool, bool]] = {"float32": ("32-true", False, True)}
    if not tiny:
        kinds = {"bf16": ("bf16-mixed", False, True), "bf16, recorded": ("bf16-mixed", True, True)}
        kinds |= {
            "float32, recorded": ("32-true", True, True),
            "TF32, recorded, any order": ("32-true", True, False),
        }
    taken, operations = {}, 0.0
    for kind, options in kinds.items():
        # One kind at a time, because a recording keeps the memory of its step.
        call = training.rounds(*options)
        taken |= interleaved({kind: call}, rounds, device=device)
        operations = operations or gigaflops(call)
        del call
        free(device)
    return {
        "batch": training.size,
        "parameters": parameters(training.segmenter),
        "GFLOP a step": operations / training.every,
        "ms a step": {kind: 1000 * value / training.every for kind, value in taken.items()},
    }


def free(device: str) -> None:
    """Free memory that is no longer referenced."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def training_of(
    name: str, shapes: dict[str, tuple[int, ...]], device: str, tiny: bool
) -> Callable[[], object]:
    """A function that takes one round of training steps without CUDA graphs."""
    return Training(name, shapes[name], device).rounds(
        "32-true" if tiny else "bf16-mixed", False, True
    )
