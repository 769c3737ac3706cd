"""The size of a training: as asked for, or the largest that this machine affords."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jsonargparse import Namespace

from cdal.cli.output import tell
from cdal.cli.recipes import checked, recipe_of
from cdal.runtime.errors import UserError

if TYPE_CHECKING:
    from cdal.datasets.check import Check
    from cdal.experiments.speed.sizes import StepCost
    from cdal.recipes.recipe import Recipe

AUTO = "auto"

Change = Callable[["Recipe"], "Recipe"]
"""Function that applies what the command line changes in a recipe."""


class Chosen(NamedTuple):
    """A size.

    Attributes:
        size: its name; `None` for the recipe's.
        check: the check of the data, if there was one.
        cost: what a step costs, if it was measured.
    """

    size: str | None = None
    check: Check | None = None
    cost: StepCost | None = None


def choose_size(options: Namespace, fields: Mapping[str, str], change: Change) -> Chosen:
    """The size to train.

    `auto` is the size of the run that the run folder holds, or else chosen by what steps cost here.

    Raises:
        UserError: `auto` cannot choose, or what the training needs is not there.
    """
    if options.size is None or options.size.lower() != AUTO:
        return Chosen(options.size)
    from cdal.experiments.speed.sizes import NIGHT, Plan, choose, memory_for_a_step
    from cdal.recipes.sizes import SIZES
    from cdal.training.run_folder import check_same_run, is_same

    _need_one_device(options)
    if not options.dry_run:
        need_places(options)
    check = None if options.data is None else checked(options.data)
    plans = {}
    for name in SIZES:
        named = recipe_of(options, fields, None, name, check)[0]
        recipe = change(named)
        if options.out is not None and is_same(Path(options.out), recipe):
            return Chosen(name, check)
        plans[name] = Plan(recipe, recipe.training.steps or named.training.steps)
    smallest = plans["S"].recipe
    if options.out is not None:
        check_same_run(Path(options.out), smallest)  # it holds another run
    if plans["S"].steps is None:
        raise UserError(
            f"--size auto needs the number of steps; the recipe {smallest.name} has minutes alone, "
            "in which any size can be trained. Name a size, or give --steps."
        )
    budget = smallest.training.minutes or NIGHT
    name, cost = choose(
        plans,
        lambda recipe: cost_of(recipe, check, options),
        budget,
        memory_for_a_step(options.device),
        lambda line: tell(line, error=True),
    )
    tell(f"size: {name}", error=True)
    return Chosen(name, check, cost)


def cost_of(recipe: Recipe, check: Check | None, options: Namespace) -> StepCost:
    """Measure a step of a recipe, for the data or else for one channel and two classes."""
    from cdal.experiments.speed.sizes import step_cost

    channels, classes = (
        (check.facts[0].channels, len(check.folder.classes)) if check and check.facts else (1, 2)
    )
    tell(f"measuring training steps on {options.device}", error=True)
    return step_cost(recipe, recipe.data.channels or channels, classes, options.device)


def cost_note(recipe: Recipe, chosen: Chosen, options: Namespace) -> str:
    """What a training costs, as a line for a dry run."""
    check = chosen.check or (None if options.data is None else checked(options.data))
    of = "" if check else " (with 1 channel and 2 classes; --data tells yours)"
    cost = chosen.cost or cost_of(recipe, check, options)
    return f"# cost on this machine{of}: {cost.about(recipe)}\n"


def need_places(options: Namespace) -> None:
    """Require the data folder and the folder for the run.

    Raises:
        UserError: one is not given.
    """
    if options.data is None or options.out is None:
        raise UserError("--data and --out are needed: the data folder, and a folder for the run.")


def _need_one_device(options: Namespace) -> None:
    from cdal.training.devices import number_of_devices

    devices, nodes = number_of_devices(options.devices, options.nodes, options.device)
    if devices * nodes > 1:
        raise UserError(
            "--size auto measures one device, and every process would choose for itself. Name the "
            f"size for {devices * nodes} devices; --dry-run tells what it costs on one."
        )
