"""Functions shared by the verbs that train.

They find the recipe, check its data, and show jobs and comparisons.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from cdal.cli.output import tell
from cdal.cli.words import DONE, IN_PART
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event

if TYPE_CHECKING:
    from cdal.datasets.check import Check
    from cdal.evaluation.comparison import Comparison
    from cdal.experiments.jobs import Job
    from cdal.recipes.recipe import Recipe
    from cdal.training.start import Start


def recipe_of(
    options: Namespace,
    fields: Mapping[str, str],
    start: Start | None = None,
    size: str | None = None,
    check: Check | None = None,
) -> tuple[Recipe, Mapping[str, str], Check | None]:
    """The recipe with the given name.

    Args:
        options: options of the verb.
        fields: fields of the recipe by name.
        start: model that the training starts from; a recipe that is derived is derived from its.
        size: size of the networks (`cdal.recipes.sizes`); `None` for the recipe's.
        check: check of the data folder, if it is known.

    Returns:
        The recipe. If it is derived from the data, also the reasons for its values by field, and
        the check of the data folder; else an empty mapping and `check`.

    Raises:
        UserError: there is no such recipe or size, or a size is given with a model to start from.
    """
    from cdal.recipes import DERIVED, find_recipe
    from cdal.recipes.sizes import sized

    if start and size is not None:
        raise UserError("--size: a model that is trained further keeps its size. Leave it out.")
    if options.recipe not in DERIVED or options.data is None:
        recipe = find_recipe(options.recipe)
        return recipe if size is None else sized(recipe, size), {}, check
    from cdal.datasets.derive import folder_recipe, tuned_recipe

    check, patient = check or checked(options.data), fields.get("data.patient")
    derived = (
        tuned_recipe(start.header.recipe, start.name, check, patient)
        if start
        else folder_recipe(check, patient, "S" if size is None else size)
    )
    return derived.recipe, derived.reasons, check


def checked(data: str) -> Check:
    """Check a data folder and show a progress bar meanwhile."""
    from cdal.cli.console import progress_bar
    from cdal.datasets.check import check_folder

    with progress_bar() as report:
        return check_folder(data, report)


def say(event: Event) -> None:
    """Print the messages of the trainings of a comparison on standard error."""
    if event.message:
        tell(f"[{event.name}] {event.message}", error=True)


def show_jobs(jobs: Sequence[Job], as_json: bool) -> int:
    """Show the state of each training and evaluation, and return the exit code."""
    from cdal.cli.console import show_values

    states = {job.name: job.state for job in jobs}
    if as_json:
        print(json.dumps(states))
    else:
        show_values(states)
        print(
            f"{sum(state != 'scored' for state in states.values())} of {len(states)} to run",
            file=sys.stderr,
        )
    return DONE


def show_comparison(comparison: Comparison, as_json: bool) -> int:
    """Show scores, uncertainty and costs as tables or as JSON, and return the exit code."""
    from cdal.cli.console import show_tables
    from cdal.evaluation.annotators import annotators_table
    from cdal.evaluation.tables import COSTS, remarks, table, uncertainty_table

    if as_json:
        print(json.dumps(comparison.to_dict()))
    else:
        rows, uncertainty = table(comparison), uncertainty_table(comparison)
        scores, costs = [row[:-COSTS] for row in rows], [row[:1] + row[-COSTS:] for row in rows]
        parts = (scores, annotators_table(comparison), uncertainty, costs)
        show_tables([part for part in parts if part], remarks(comparison))
    return DONE if len(comparison.finished) == len(comparison.competitors) else IN_PART
