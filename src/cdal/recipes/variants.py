"""Variants of a recipe: another segmenter, the paper's training, other sampling."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cdal.recipes.recipe import Recipe, override
from cdal.recipes.settings import DataSettings, SegmenterSettings, TrainingSettings
from cdal.recipes.systems import default_settings
from cdal.runtime.errors import UserError

MOST_ANNOTATORS = 4
"""Most annotators of an image in one training step; further ones have their turn in others."""

TUNING_RATE = 0.1
"""Learning rate of a training that starts from a model's weights, relative to the model's own."""

_TUNING_STEPS = 500
"""Steps of such a training, some minutes on two cores."""

_SLICES_FOR_A_VOLUME = 8
"""Slices in a batch of a 2D network for each volume in a batch of a 3D network."""


def with_segmenter(recipe: Recipe, name: str) -> Recipe:
    """The recipe with another segmenter, adapted to the recipe's data.

    2D networks get volumes slice by slice. Patches grow to the multiple that the network needs. If
    votes see mirror images, deterministic segmenters have one vote for each mirror image. Training
    fields that the segmenter's settings name (`training`) replace the recipe's.

    Raises:
        UserError: the segmenter does not exist, or it cannot be used with the recipe's data.
    """
    if name == recipe.segmenter.name:
        return recipe
    if name == "cdal-paper":
        return _paper(recipe)
    settings = default_settings(name).shaped_like(recipe.segmenter)
    if recipe.data.spatial_dims not in settings.dims:
        if 2 not in settings.dims:
            raise UserError(
                f"the segmenter {name} needs volumes; the recipe {recipe.name} is for pictures. "
                "Use a 3D recipe."
            )
        recipe = _slice_by_slice(recipe, settings.neighbours)
    if recipe.data.mirror_votes and not settings.stochastic:
        settings = replace(settings, votes=len(recipe.data.mirrors))
    votes = min(recipe.training.validation_votes, settings.votes)
    annotators = recipe.training.annotators if settings.several_annotators else 1
    changed = {"validation_votes": votes, "annotators": annotators, **settings.training}
    return replace(
        recipe,
        data=_fitting(recipe.data, settings),
        segmenter=settings,
        training=replace(recipe.training, **changed),
    )


def for_annotators(recipe: Recipe, annotators: int) -> Recipe:
    """The recipe for cases with several annotators, whose votes are to differ as those do.

    A mask of the mean vote pleases the soft Dice loss and no annotator, so the energy score with
    1 - IoU takes its place: votes may be whole or empty. It is estimated with several annotators of
    an image at once.

    Args:
        recipe: recipe with cDAL as its segmenter.
        annotators: fewest annotators of a case.
    """
    return override(
        recipe,
        {
            "data.decision": "expected-dice",
            "segmenter.votes": 16,
            "segmenter.sampling_timesteps": 4,
            "segmenter.training_votes": 3,
            "segmenter.iou_energy": 2.0,
            "segmenter.dice": 0.0,
            "training.annotators": min(annotators, MOST_ANNOTATORS),
            "training.validation_votes": 4,
        },
    )


def _fitting(data: DataSettings, settings: SegmenterSettings) -> DataSettings:
    """The data settings with a patch size that the network accepts.

    A larger patch may allow more levels, which need a larger multiple; hence the recursion.
    """
    multiple = settings.multiple(data)
    size = tuple(math.ceil(s / multiple) * multiple for s in data.size)
    return data if size == data.size else _fitting(replace(data, size=size), settings)


def _slice_by_slice(recipe: Recipe, neighbours: int) -> Recipe:
    data, training = recipe.data, recipe.training
    size = tuple(s for axis, s in enumerate(data.size) if axis != data.slice_axis)
    new_axis = tuple(sorted({0, 1, 2} - {data.slice_axis})).index
    return replace(
        recipe,
        data=replace(
            data,
            spatial_dims=2,
            size=size,
            neighbours=neighbours,
            flips=tuple(new_axis(axis) for axis in data.flips if axis != data.slice_axis),
        ),
        training=replace(training, batch=training.batch * _SLICES_FOR_A_VOLUME),
    )


def _paper(recipe: Recipe) -> Recipe:
    """The paper's method on the recipe's data.

    It has single slices, no flips, and the paper's learning rates and momenta. Unlike in the paper,
    gradients are clipped and the learning rate follows a cosine. Patches are rotated and scaled as
    in the recipe.
    """
    if recipe.data.spatial_dims == 3:
        recipe = _slice_by_slice(recipe, 0)
    return replace(
        recipe,
        data=replace(recipe.data, neighbours=0, flips=()),
        segmenter=default_settings("cdal-paper"),
        training=paper_training(recipe.training, 1.6e-4, 1.25e-4),
    )


def paper_training(
    training: TrainingSettings, learning_rate: float, discriminator_learning_rate: float
) -> TrainingSettings:
    """The training settings with the paper's optimiser.

    The paper's learning rates depend on the data set.
    """
    return replace(
        training,
        learning_rate=learning_rate,
        discriminator_learning_rate=discriminator_learning_rate,
        betas=(0.5, 0.9),
        weight_decay=0.0,
        validation_votes=1,
    )


def fine_tuned(recipe: Recipe, annotators: int = 1) -> Recipe:
    """The recipe of a model, for a short training that starts from its weights.

    The learning rate of the network that predicts is smaller; that of a discriminator, which starts
    anew, stays. The last weights are nearly the best of so gentle a training, and it is validated
    and saved often.

    Args:
        recipe: the model's recipe.
        annotators: fewest annotators of a case to train on.
    """
    training = replace(
        recipe.training,
        annotators=min(annotators, recipe.training.annotators),
        steps=_TUNING_STEPS,
        minutes=None,
        learning_rate=recipe.training.learning_rate * TUNING_RATE,
        validate_every=_TUNING_STEPS // 5,
        checkpoint_every=_TUNING_STEPS // 10,
    )
    return replace(recipe, training=training)


def with_timesteps(recipe: Recipe, timesteps: int | None, path: Path) -> Recipe:
    """The recipe with another number of sampling steps; unchanged if `timesteps` is `None`.

    Raises:
        UserError: the segmenter has no diffusion (the message names the model file at `path`), or
            was not trained for this number of steps.
    """
    if timesteps is None:
        return recipe
    if recipe.segmenter.diffusion_steps is None:
        raise UserError(
            f"{path}: timesteps belong to diffusion; this model is a {recipe.segmenter.name}."
        )
    try:
        return _sampled(recipe, timesteps)
    except UserError as error:
        possible = []
        for steps in range(getattr(recipe.segmenter, "timesteps", 0) + 1):
            with suppress(UserError):
                _sampled(recipe, steps)
                possible.append(steps)
        raise UserError(
            f"timesteps must be {', '.join(map(str, possible))}, as the model was trained; it is "
            f"{timesteps}."
        ) from error


def _sampled(recipe: Recipe, timesteps: int) -> Recipe:
    return override(recipe, {"segmenter.sampling_timesteps": timesteps})


def with_mirrors(recipe: Recipe, path: Path) -> Recipe:
    """The recipe with votes that see mirror images.

    A deterministic segmenter has one vote for each mirror image.

    Raises:
        UserError: the recipe has no axes along which mirror images are possible; the message names
            the model file at `path`.
    """
    if not recipe.data.flips:
        raise UserError(
            f"{path}: its recipe has no axis along which a mirror image is possible (data.flips is "
            "empty)."
        )
    data, segmenter = replace(recipe.data, mirror_votes=True), recipe.segmenter
    votes = segmenter.votes if segmenter.stochastic else len(data.mirrors)
    return replace(recipe, data=data, segmenter=replace(segmenter, votes=votes))
