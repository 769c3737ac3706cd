"""Several trained segmenters that vote together: their settings, and what they must agree on."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cdal.recipes.recipe import Recipe
from cdal.recipes.settings import DataSettings, SegmenterSettings
from cdal.runtime.errors import UserError

_OF_TRAINING = (
    *("channels", "partition", "folds", "fold", "validation", "patient", "protocols"),
    *("rotation", "scaling", "shift", "intensity", "stain", "collimation", "foreground"),
)
"""Data settings in which members may differ: no segmentation depends on them."""


@dataclass(frozen=True)
class EnsembleSettings(SegmenterSettings):
    """Settings of several trained segmenters that vote together. They cannot be trained.

    Attributes:
        name: systems of the members, such as `ensemble of 5 cdal`.
        votes: segmentations that are averaged for one image, shared out among the members.
        members: settings of each member.
    """

    members: tuple[SegmenterSettings, ...] = ()

    @property
    def parts(self) -> tuple[SegmenterSettings, ...]:
        """See `SegmenterSettings.parts`."""
        return self.members

    def multiple(self, data: DataSettings) -> int:
        """The least common multiple of what the members need."""
        return math.lcm(*(member.multiple(data) for member in self.members))

    @property
    def several_annotators(self) -> bool:
        """Always, as the members' trainings are over."""
        return True

    @property
    def stochastic(self) -> bool:
        """Whether the votes of a member can differ."""
        return any(member.stochastic for member in self.members)

    @property
    def diffusion_steps(self) -> int | None:
        """T of sampling, if it is the same for all members."""
        steps = {member.diffusion_steps for member in self.members}
        return steps.pop() if len(steps) == 1 else None


def join_recipes(recipes: Sequence[Recipe], names: Sequence[str]) -> Recipe:
    """The recipe of an ensemble: how its members segment together.

    Images are prepared as for the first member. Fold, partition, augmentation and training are
    those of the first member, too.

    Args:
        recipes: recipe of each member.
        names: name of each member, for errors.

    Raises:
        UserError: two members prepare images differently. The message names the field and both
            values.
    """
    first = recipes[0]
    for recipe, name in zip(recipes[1:], names[1:], strict=True):
        for option in dataclasses.fields(DataSettings):
            values = [getattr(one.data, option.name) for one in (first, recipe)]
            if values[0] != values[1] and _decides(option.name, first.data):
                need_equal(f"data.{option.name}", values, (names[0], name))
    count = Counter(recipe.segmenter.name for recipe in recipes)
    systems = ", ".join(f"{number} {name}" for name, number in count.items())
    members = tuple(recipe.segmenter for recipe in recipes)
    titles = {recipe.name for recipe in recipes}
    settings = EnsembleSettings(f"ensemble of {systems}", _votes(recipes), members)
    return replace(first, name=first.name if len(titles) == 1 else "ensemble", segmenter=settings)


def need_equal(field: str, values: Sequence[object], names: Sequence[str]) -> None:
    """Refuse two members that differ in a field.

    Raises:
        UserError: the two values are different.
    """
    if values[0] != values[1]:
        raise UserError(
            f"{names[0]} and {names[1]} cannot vote together: {field} is {values[0]!r} in the one "
            f"and {values[1]!r} in the other. Members see an image alike and know the same classes;"
            " only their fold, seed, training and segmenter may differ."
        )


def _decides(field: str, data: DataSettings) -> bool:
    """Whether a segmentation depends on a data setting."""
    return field not in _OF_TRAINING and (field != "flips" or data.mirror_votes)


def _votes(recipes: Sequence[Recipe]) -> int:
    """Number of votes of an ensemble by default.

    It is the largest of its members' numbers, at least one for each member. If no member draws
    random numbers, each gives all the votes that it has: one for each mirror image.
    """
    alone = [
        recipe.segmenter.votes
        if recipe.segmenter.stochastic
        else min(recipe.segmenter.votes, len(recipe.data.mirrors))
        for recipe in recipes
    ]
    if not any(recipe.segmenter.stochastic for recipe in recipes):
        return sum(alone)
    return max(*alone, len(recipes))
