"""Options of sampling and of judging its result, which all verbs with a model share."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from cdal.recipes.recipe import Recipe, override
from cdal.recipes.variants import with_mirrors, with_timesteps
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    possible_temperature,
)


def _option(help: str, default: Any = None) -> Any:  # noqa: A002 (the command line's own word)
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Sampling:
    """How a trained segmenter is sampled, and how its result is judged.

    `None` stands for the value of the model's recipe.

    To add an option, add a field here and use it. Its help text is that of the command line.

    Attributes:
        votes: number of segmentations V that are drawn and averaged for each image.
        timesteps: number of sampling steps T, a divisor of the T of training. 0 omits the
            diffusion.
        mirror: whether the votes see the mirror images that the recipe allows (`data.flips`). Each
            mirror image has to be encoded.
        components: number of connected components to keep of each class, the largest ones; 0 keeps
            all. Probabilities and uncertainty are not changed.
        decision: how the mask is chosen from the votes, `largest` or `expected-dice`, see
            `cdal.recipes.settings.DataSettings`.
        temperature: temperature for calibrating probabilities; 1 leaves them unchanged. `None`
            stands for the temperature in the model file.
        seed: random seed. Together with the name of an image it decides all random draws.
        review_below: expected Dice of a class, 0 to 1, below which a case is for review; `None`
            for no verdict.
        strict: whether an image unlike the training images is refused.
        skip: whether the glass around the tissue of a large slide is taken for background without
            being segmented, see `cdal.inference.glass`.

    Raises:
        UserError: a number is too low or too high.
    """

    votes: int | None = _option(
        "Segmentations drawn and averaged for each image (default: the recipe's number)."
    )
    timesteps: int | None = _option(
        "Steps of sampling; 0 for no diffusion (default: the recipe's number)."
    )
    mirror: bool | None = _option(
        "Show the votes the mirror images that the recipe allows; slower (default: as the recipe "
        "says)."
    )
    components: int | None = _option(
        "Connected components to keep of each class, the largest; 0 keeps all (default: the "
        "recipe's)."
    )
    decision: Literal["largest", "expected-dice"] | None = _option(
        "How the mask is chosen: the largest probability, or the highest expected Dice over the "
        "votes (default: as the recipe says)."
    )
    temperature: float | None = _option(
        "Temperature for calibrating probabilities (default: the model's)."
    )
    seed: int = _option("Random seed.", 0)
    review_below: float | None = _option(
        "Expected Dice below which a case is for review, 0 to 1 (default: no verdict)."
    )
    strict: bool = _option("Refuse images that are unlike the training images.", False)
    skip: bool = _option(
        "Take the glass around the tissue of a large slide for background, unseen; --no-skip "
        "segments it.",
        True,
    )

    def __post_init__(self) -> None:
        for name, least in (("votes", 1), ("timesteps", 0), ("components", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} must be {least} or more; it is {value}.")
        if self.decision not in (None, "largest", "expected-dice"):
            raise UserError(f"decision must be largest or expected-dice; it is {self.decision!r}.")
        if self.review_below is not None and not 0 <= self.review_below <= 1:
            raise UserError(f"review_below must be 0 to 1; it is {self.review_below}.")
        if self.temperature is not None and not self.temperature > 0:
            raise UserError(f"temperature must be more than 0; it is {self.temperature}.")
        if self.temperature is not None and not possible_temperature(self.temperature):
            raise UserError(
                f"temperature must be {LEAST_TEMPERATURE:g} to {MOST_TEMPERATURE:g}; it is "
                f"{self.temperature}."
            )

    def of(self, recipe: Recipe, model: Path) -> Recipe:
        """The recipe of a model with these options in place of its own.

        Raises:
            UserError: an option is not possible for it. The message names the model file.
        """
        recipe = with_timesteps(recipe, self.timesteps, model)
        if self.mirror is not None:
            recipe = (
                with_mirrors(recipe, model)
                if self.mirror
                else override(recipe, {"data.mirror_votes": False})
            )
        own = {"components": self.components, "decision": self.decision}
        return override(
            recipe, {f"data.{name}": value for name, value in own.items() if value is not None}
        )

    def words(self) -> list[str]:
        """The options of the command line, `["--votes", "3"]`, that differ from their defaults."""
        words = []
        for option in fields(self):
            value = getattr(self, option.name)
            if value == option.default:
                continue
            name = option.name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            else:
                words += [f"--{name}", f"{value}"]
        return words
