"""What a training of each size costs on this machine, measured by some of its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from cdal.experiments.speed.steps import NoiseTraining
from cdal.experiments.speed.timing import gigaflops, peak, seconds
from cdal.recipes.recipe import Recipe
from cdal.runtime.devices import find_device
from cdal.runtime.errors import UserError
from cdal.runtime.memory import free_memory, is_shortage
from cdal.segmenters.segmenter import parameters

NIGHT = 8 * 60.0
"""Minutes that a training may take if the user gives no budget."""

_SHARE = 0.7
"""Share of the free memory that a step may need: cases and validations need memory, too."""


@dataclass(frozen=True)
class StepCost:
    """The mean cost of a training step.

    Attributes:
        parameters: learned parameters of the network that predicts.
        gigaflop: 10^9 operations of convolutions and matrix products.
        seconds: time without the making of the batch.
        memory_gib: memory of networks and step; `None` if the system does not report it.
    """

    parameters: int
    gigaflop: float
    seconds: float
    memory_gib: float | None

    def minutes(self, steps: int) -> float:
        """Time of this many steps, without validations."""
        return steps * self.seconds / 60

    def about(self, recipe: Recipe) -> str:
        """The cost of a step and of the recipe's training, in words."""
        memory = "" if self.memory_gib is None else f", {self.memory_gib:.1f} GiB"
        training = recipe.training
        steps = training.steps
        if training.minutes is not None:
            most = int(60 * training.minutes / self.seconds)
            steps = most if steps is None else min(most, steps)
        assert steps is not None  # a recipe has one of both, or both
        return (
            f"{self.parameters / 1e6:.2f} M parameters; a step: {self.gigaflop:.0f} GFLOP, "
            f"{self.seconds:.2g} s{memory}; {steps} steps: {_time(self.minutes(steps))} and the "
            "validations"
        )


class Plan(NamedTuple):
    """A training that may be affordable.

    Attributes:
        recipe: its recipe.
        steps: steps that it should have, also if it has a budget in minutes.
    """

    recipe: Recipe
    steps: int | None


def step_cost(recipe: Recipe, channels: int, classes: int, device: str) -> StepCost:
    """Measure the training steps of a recipe, on a batch of noise.

    Args:
        recipe: recipe to train.
        channels: channels of an image.
        classes: K, the number of classes.
        device: see `cdal.runtime.devices.find_device`.

    Raises:
        UserError: there is no such device, or its memory is too small for a step.
    """
    found = find_device(device)
    built: list[NoiseTraining] = []

    def first() -> None:
        built.append(NoiseTraining(recipe, channels, classes, found))
        operations.append(gigaflops(built[0].rounds()))

    operations: list[float] = []
    try:
        memory = peak(first, found.type)
        taken = seconds(built[0].rounds(recorded=found.type == "cuda"), found.type)
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        raise UserError(
            f"a step of {recipe.training.batch} patches of {recipe.data.size} does not fit into "
            "the memory. Choose a smaller --size or a smaller --training.batch."
        ) from error
    every = built[0].every
    return StepCost(parameters(built[0].segmenter), operations[0] / every, taken / every, memory)


def choose(
    plans: Mapping[str, Plan],
    cost: Callable[[Recipe], StepCost],
    budget: float,
    limit_gib: float | None,
    tell: Callable[[str], None],
) -> tuple[str, StepCost | None]:
    """The largest size whose training fits into the memory and ends within a budget.

    Larger ones than the first that does not are not measured. The first is taken if none does.

    Args:
        plans: plan of each size, the smallest first.
        cost: function that measures a step of a recipe.
        budget: minutes.
        limit_gib: memory; `None` if unknown.
        tell: receives a line for each size that was measured.

    Returns:
        The name of the size, and its cost if that could be measured.
    """
    chosen: tuple[str, StepCost | None] = (next(iter(plans)), None)
    for name, (recipe, steps) in plans.items():
        try:
            measured = cost(recipe)
        except UserError as error:
            tell(f"size {name}: {error}")
            break
        minutes = measured.minutes(steps or 0)
        verdict = "affordable"
        if limit_gib is not None and (measured.memory_gib or 0.0) > limit_gib:
            verdict = f"too large for {limit_gib:.1f} GiB"
        elif minutes > budget:
            verdict = f"its {steps} steps take {_time(minutes)}, too long for {_time(budget)}"
        tell(f"size {name}: {measured.about(recipe)}; {verdict}")
        if verdict == "affordable" or name == chosen[0]:
            chosen = name, measured
        if verdict != "affordable":
            break
    return chosen


def _time(minutes: float) -> str:
    """A time in words."""
    if minutes < 2:
        return f"{60 * minutes:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"


def memory_for_a_step(device: str) -> float | None:
    """Memory in GiB that a training step may need on a device; `None` if unknown."""
    if find_device(device).type == "cuda":
        return _SHARE * torch.cuda.mem_get_info()[0] / 2**30
    free = free_memory()
    return None if free is None else _SHARE * free / 2**30
