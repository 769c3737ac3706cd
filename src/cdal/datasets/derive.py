"""Deriving a recipe from the facts that `check_folder` collects, with a reason for each choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import mean, median, pstdev

import numpy as np

from cdal.datasets.findings import FEWEST, CaseFacts, Check
from cdal.datasets.partition import given_parts, groups_of, has_split
from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings
from cdal.recipes.sizes import SIZES, find_size, sized
from cdal.recipes.variants import TUNING_RATE, fine_tuned, for_annotators
from cdal.runtime.errors import UserError

_SIDE = SIZES["S"].side
"""Side up to which pictures of one shape are seen whole, and slices with their neighbours."""

_LARGE = 0.15
"""Typical object size from which the network sees the whole image, relative to the image's side.

Larger objects need the context of the whole image; smaller ones need its full resolution.
"""

_NEAR, _ENOUGH = 0.02, 10
"""If small objects are this near to the middle, relative to the picture, in at least so many
pictures, the pictures were cut around them."""

_RARE = 0.05
"""If the foreground takes a smaller share of the image, some patches are centred on it."""

_ANISOTROPIC = 3.0
"""Ratio of slice thickness to pixel size from which volumes are segmented slice by slice.

Each slice is then seen with its two neighbours.
"""

_MULTIPLE = 8
_MOST_FOLDS = 5


@dataclass(frozen=True)
class Derived:
    """A recipe and the reasons for its settings.

    Attributes:
        recipe: complete recipe.
        reasons: reasons in words, by field, such as `data.size`.
    """

    recipe: Recipe
    reasons: Mapping[str, str]


def folder_recipe(checked: Check, patient: str | None = None, size: str = "S") -> Derived:
    """Derive size, tiling, classes and steps from the images of a data folder.

    Args:
        checked: result of `check_folder`.
        patient: regular expression for patients, see `DataSettings.patient`.
        size: size of the patch and of the networks, see `cdal.recipes.sizes`.

    Raises:
        UserError: the folder has errors, fewer than three cases, or fewer than three patients; or
            there is no such size.
    """
    facts, patch, size = _enough(checked), find_size(size), size.upper()
    small = _objects_are_small(facts)
    data, reasons = (
        _pictures(facts, small, patch.side)
        if len(facts[0].shape) == 2
        else _volumes(facts, patch.voxels)
    )
    foreground = median(fact.foreground for fact in facts)
    if foreground < _RARE:
        data = replace(data, foreground=0.33)
        reasons["data.foreground"] = (
            f"the foreground is {foreground:.1%} of an image: a third of the patches are centred "
            "on it"
        )
    data, partition_reasons = _partition(checked, replace(data, patient=patient))
    reasons |= partition_reasons
    steps, batch = (
        (3000, 2)
        if data.spatial_dims == 3
        else (3000, 16)
        if data.neighbours
        else (2000, 4)
        if small
        else (1000, 4)
    )
    annotators = min(len(fact.drawn) for fact in facts)
    segmenter = CDALSettings(sampling_timesteps=4 if small else 2)
    reasons["segmenter.sampling_timesteps"] = (
        f"{segmenter.sampling_timesteps}, for {'small' if small else 'large'} objects, as in the "
        "paper"
    )
    classes = ", ".join(
        f"{value} = {name}"
        for value, name in zip(checked.folder.values, checked.folder.classes, strict=True)
    )
    reasons["classes"] = (
        f"{classes}{'' if len(checked.folder.classes) > 2 else ' (one label channel)'}"
    )
    reasons["training.steps"] = (
        f"{steps}, some tens of minutes on two cores; --minutes or --steps changes it"
        if size == "S"
        else f"{steps * patch.steps}, for size {size}; --minutes or --steps changes it"
    )
    if size != "S":
        reasons["segmenter.channels"] = (
            f"those of size {size}; denoiser, discriminator and perhaps the patch are larger, too"
        )
    training = TrainingSettings(steps=steps, batch=batch, validate_every=250, checkpoint_every=250)
    recipe = sized(Recipe("folder", data, segmenter, training), size)
    if annotators < 2:
        return Derived(recipe, reasons)
    recipe = for_annotators(recipe, annotators)
    reasons["training.annotators"] = (
        f"{recipe.training.annotators}: every image has {annotators} or more annotations; the "
        "votes learn to be distributed as they are, empty or whole"
    )
    reasons["segmenter.sampling_timesteps"] = (
        f"{recipe.segmenter.diffusion_steps}, as the votes are to differ"
    )
    return Derived(recipe, reasons)


def tuned_recipe(model: Recipe, name: str, checked: Check, patient: str | None = None) -> Derived:
    """Derive a recipe for training a model's weights further on a data folder.

    A model that is trained on another grid is another model. So the model's recipe decides all but
    the partition and the length of the training.

    Args:
        model: recipe of the model.
        name: name of the model.
        checked: result of `check_folder`.
        patient: see `folder_recipe`.

    Raises:
        UserError: as for `folder_recipe`.
    """
    _enough(checked)
    own = replace(model.data, patient=patient, fold=0, validation=True)
    data, reasons = _partition(checked, own)
    annotators = min(len(fact.drawn) for fact in checked.facts)
    recipe = fine_tuned(replace(model, data=data), annotators)
    return Derived(recipe, {**tuning_reasons(name), **reasons})


def tuning_reasons(name: str) -> dict[str, str]:
    """Why the recipe of a model that is trained further is as it is, by field."""
    return {
        "data": f"as {name} was trained, but for its parts",
        "segmenter": f"that of {name}",
        "training.learning_rate": f"{TUNING_RATE:g} of that of {name}, whose weights are a start",
        "training.steps": "some minutes on two cores; --minutes or --steps changes it",
    }


def _enough(checked: Check) -> tuple[CaseFacts, ...]:
    """Facts about the cases of a folder; raises UserError if it has errors or too few cases."""
    checked.need_no_errors()
    if len(checked.facts) < FEWEST:
        raise UserError(
            f"{checked.folder.root}: expected at least {FEWEST} cases (training, validation "
            f"and test); it holds {len(checked.facts)}."
        )
    return checked.facts


def _objects_are_small(facts: tuple[CaseFacts, ...]) -> bool:
    """Whether pictures are larger than a window and their objects are small parts of them."""
    sizes = [fact.object_size for fact in facts if fact.object_size]
    return (
        bool(sizes) and median(sizes) < _LARGE and median(max(fact.shape) for fact in facts) > _SIDE
    )


def _in_the_middle(facts: tuple[CaseFacts, ...]) -> bool:
    """Whether somebody cut the pictures such that their objects are in the middle."""
    centres = [fact.centre for fact in facts if fact.centre is not None]
    return len(centres) >= _ENOUGH and all(
        abs(mean(places) - 0.5) < _NEAR and pstdev(places) < _NEAR
        for places in zip(*centres, strict=True)
    )


def _pictures(
    facts: tuple[CaseFacts, ...], small: bool, side: int
) -> tuple[DataSettings, dict[str, str]]:
    height, width = (int(median(fact.shape[axis] for fact in facts)) for axis in range(2))
    gray = all(fact.channels == 1 or fact.gray for fact in facts)
    channels = 1 if gray else max(fact.channels for fact in facts)
    data = DataSettings(spatial_dims=2, size=(side, side), channels=channels, shift=16.0, whole=1.0)
    saved = " (gray, saved in colours)" if gray and any(fact.gray for fact in facts) else ""
    reasons = {"data.channels": f"{channels}{saved}"}
    if channels == 3 and all(fact.stored == "uint8" for fact in facts):
        data = replace(data, intensities="range")
        reasons["data.intensities"] = "range: colours of 8 bits mean the same in every picture"
    sizes = [fact.object_size for fact in facts if fact.object_size]
    size = median(sizes) if sizes else 1.0
    longest = max(height, width)
    if longest <= _SIDE and len({fact.shape for fact in facts}) == 1:
        data = replace(data, size=_round_up((height, width)), whole=2.0)
        reasons["data.size"] = (
            f"{data.size}: all pictures are {height} x {width}, small enough to be seen whole"
        )
        if size < _LARGE and _in_the_middle(facts):
            data = replace(data, shift=0.0, position=True, whole=1.0)
            reasons["data.position"] = (
                "true: the object is in the middle of every picture, and its place helps to find "
                "it. Pictures to segment must be cut in the same way"
            )
    elif not small:
        # Pictures below the usual side are enlarged to it, but not to the side of a larger size.
        scale = min(side, max(_SIDE, longest)) / longest
        whole = _round((height * scale, width * scale))
        data = replace(data, size=whole, resize=whole)
        reasons["data.resize"] = (
            f"{whole}: a typical object spans {size:.0%} of a picture (typically {height} x "
            f"{width}), so the network sees the whole picture at once; masks come back at the "
            "picture's own size"
        )
        reasons["data.size"] = f"{whole}: the whole picture, for large objects"
    else:
        window = tuple(min(side, s) for s in _round_up((height, width)))
        data = replace(
            data,
            size=window,
            overlap=0.25,
            flips=(0, 1),
            mirror_votes=True,
            rotation=45.0,
            scaling=0.25,
            whole=1.0,
        )
        reasons["data.size"] = (
            f"{window}: a typical object spans {size:.1%} of a picture (typically {height} x "
            f"{width}); such small objects are segmented at the picture's own resolution, in "
            "windows"
        )
        reasons["data.flips"] = "both: small objects look alike in a mirror"
        reasons["data.mirror_votes"] = (
            "true: the votes see the mirror images too; better, in twice the time (not with "
            "--no-mirror)"
        )
    return data, reasons


def _volumes(facts: tuple[CaseFacts, ...], voxels: int) -> tuple[DataSettings, dict[str, str]]:
    channels = max(fact.channels for fact in facts)
    reasons = {"data.channels": str(channels)}
    placed = [fact.spacing for fact in facts if fact.spacing is not None]
    spacing = (
        tuple(round(float(s), 3) for s in np.median(placed, axis=0))
        if len(placed) == len(facts)
        else None
    )
    resampled = [
        np.array(fact.shape) * (fact.spacing or (1, 1, 1)) / (spacing or fact.spacing or (1, 1, 1))
        for fact in facts
    ]
    shape = np.median(resampled, axis=0)
    data = DataSettings(channels=channels, spacing=spacing)
    if spacing is None:
        reasons["data.spacing"] = "null: the volumes' format knows no millimetres"
    else:
        reasons["data.spacing"] = f"{spacing} mm a voxel, the median of the volumes"
    ratio = max(spacing) / min(spacing) if spacing else 1.0
    thick = int(np.argmax(spacing)) if spacing and ratio >= _ANISOTROPIC else int(np.argmin(shape))
    if ratio >= _ANISOTROPIC or shape[thick] < 2 * _MULTIPLE:
        plane = np.delete(shape, thick)
        size = tuple(min(s, _SIDE) for s in _round_up(plane))
        data = replace(data, spatial_dims=2, size=size, neighbours=1, slice_axis=thick, shift=8.0)
        why = (
            f"slices are {ratio:.1f} times as thick as pixels"
            if ratio >= _ANISOTROPIC
            else f"there are {shape[thick]:.0f} slices"
        )
        reasons["data.spatial_dims"] = (
            f"2: {why}, so each is seen as a picture with its two neighbours"
        )
    else:
        size = _round_up(shape)
        while math.prod(size) > voxels:
            longest = int(np.argmax(size))
            size = tuple(s - _MULTIPLE if axis == longest else s for axis, s in enumerate(size))
        data = replace(data, spatial_dims=3, size=size)
    typical = " x ".join(f"{s:.0f}" for s in shape)
    reasons["data.size"] = (
        f"{data.size}: volumes typically have {typical} voxels; larger ones are segmented in "
        "windows"
    )
    return data, reasons


def _partition(checked: Check, data: DataSettings) -> tuple[DataSettings, dict[str, str]]:
    folds = min(_MOST_FOLDS, len(checked.facts))
    if has_split(checked.folder):
        test = set(given_parts(checked.folder)["test"])
        rest = [case for case in checked.folder.cases if case.name not in test]
        count = len(set(groups_of(checked.folder, rest, data.patient).values()))
        return replace(data, partition="given", folds=max(3, min(_MOST_FOLDS, count))), {
            "data.partition": "given: the folder says which cases are for the test"
        }
    patients = len(set(groups_of(checked.folder, checked.folder.cases, data.patient).values()))
    folds = min(folds, patients)
    if folds < 3:
        raise UserError(
            f"{checked.folder.root}: expected cases of at least 3 patients; they are of {patients}."
        )
    grouped = (
        f", none of the {patients} patients in two of them" if patients < len(checked.facts) else ""
    )
    reason = (
        f"stratified: {folds} parts alike in classes and in how much of an image they take{grouped}"
    )
    return replace(data, partition="stratified", folds=folds), {"data.partition": reason}


def _round_up(size: np.ndarray | tuple[float, ...]) -> tuple[int, ...]:
    return tuple(
        max(2 * _MULTIPLE, math.ceil(round(float(s), 1) / _MULTIPLE) * _MULTIPLE) for s in size
    )


def _round(size: tuple[float, float]) -> tuple[int, int]:
    rows, columns = (max(2 * _MULTIPLE, round(s / _MULTIPLE) * _MULTIPLE) for s in size)
    return rows, columns
