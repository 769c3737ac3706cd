"""Anyone's own folder: a recipe derived from what `check_folder` saw, with the reason for each choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from cdal.datasets.findings import CaseFacts, Check
from cdal.datasets.partition import groups_of
from cdal.recipes.recipe import CDALSettings, DataSettings, Recipe, TrainingSettings
from cdal.runtime.errors import UserError

_SIDE = 256
"""Pixels of a picture's longer side, or of a window, that two cores train in minutes."""

_VOXELS = 2**17
"""Voxels of a training patch in 3D, for the same reason."""

_LARGE = 0.15
"""Objects of at least this share of the image's side need the whole image to be told apart; smaller ones need its resolution."""

_RARE = 0.05
"""With less foreground than this share of the voxels, some patches are centred on it."""

_ANISOTROPIC = 3.0
"""With slices that are so many times thicker than the pixels, a volume is segmented slice by slice with its neighbours."""

_MULTIPLE = 8
_MOST_FOLDS = 5


@dataclass(frozen=True)
class Derived:
    """A recipe and why it is so.

    Attributes:
        recipe: complete.
        reasons: by field, `data.size`, in words.
    """

    recipe: Recipe
    reasons: Mapping[str, str]


def folder_recipe(checked: Check, patient: str | None = None) -> Derived:
    """Size, tiling, classes and steps from the folder's images.

    Args:
        checked: what `check_folder` gave.
        patient: see `DataSettings.patient`.

    Raises:
        UserError: the folder has errors, or fewer than three cases.
    """
    checked.need_no_errors()
    facts = checked.facts
    if len(facts) < 3:
        raise UserError(f"{checked.folder.root}: expected at least 3 cases (training, validation and test); it holds {len(facts)}.")
    small = _objects_are_small(facts)
    data, reasons = _pictures(facts, small) if len(facts[0].shape) == 2 else _volumes(facts)
    rare = median(fact.foreground for fact in facts)
    if rare < _RARE:
        data = replace(data, foreground=0.33)
        reasons["data.foreground"] = f"the foreground is {rare:.1%} of an image: a third of the patches are centred on it"
    data, split = _partition(checked, replace(data, patient=patient))
    reasons |= split
    steps, batch = (3000, 2) if data.spatial_dims == 3 else (3000, 16) if data.neighbours else (2000, 4) if small else (1000, 4)
    segmenter = CDALSettings(sampling_timesteps=4 if small else 2)
    reasons["segmenter.sampling_timesteps"] = (
        f"{segmenter.sampling_timesteps}, for {'small' if small else 'large'} objects, as in the paper"
    )
    classes = ", ".join(f"{value} = {name}" for value, name in zip(checked.folder.values, checked.folder.classes, strict=True))
    reasons["classes"] = f"{classes}{'' if len(checked.folder.classes) > 2 else ' (one label channel)'}"
    reasons["training.steps"] = f"{steps}, some tens of minutes on two cores; --minutes or --steps changes it"
    training = TrainingSettings(steps=steps, batch=batch, validate_every=250, checkpoint_every=250)
    return Derived(Recipe("folder", data, segmenter, training), reasons)


def _objects_are_small(facts: tuple[CaseFacts, ...]) -> bool:
    """Whether pictures are larger than a window and their objects a small part of them."""
    sizes = [fact.object_size for fact in facts if fact.object_size]
    return bool(sizes) and median(sizes) < _LARGE and median(max(fact.shape) for fact in facts) > _SIDE


def _pictures(facts: tuple[CaseFacts, ...], small: bool) -> tuple[DataSettings, dict[str, str]]:
    height, width = (int(median(fact.shape[axis] for fact in facts)) for axis in range(2))
    gray = all(fact.channels == 1 or fact.gray for fact in facts)
    channels = 1 if gray else max(fact.channels for fact in facts)
    data = DataSettings(spatial_dims=2, size=(_SIDE, _SIDE), channels=channels, shift=16.0, whole=1.0)
    saved = " (gray, saved in colours)" if gray and any(fact.gray for fact in facts) else ""
    reasons = {"data.channels": f"{channels}{saved}"}
    if channels == 3 and all(fact.stored == "uint8" for fact in facts):
        data = replace(data, intensities="range")
        reasons["data.intensities"] = "range: colours of 8 bits mean the same in every picture"
    drawn = [fact.object_size for fact in facts if fact.object_size]
    size = median(drawn) if drawn else 1.0
    longest = max(height, width)
    if longest <= _SIDE and len({fact.shape for fact in facts}) == 1:
        data = replace(data, size=_up((height, width)), whole=2.0)
        reasons["data.size"] = f"{data.size}: all pictures are {height} x {width}, small enough to be seen whole"
    elif not small:
        whole = _near((height * _SIDE / longest, width * _SIDE / longest))
        data = replace(data, size=whole, resize=whole)
        reasons["data.resize"] = (
            f"{whole}: a typical object spans {size:.0%} of a picture ({height} x {width} as a rule), so the network sees the "
            "whole picture at once; masks come back at the picture's own size"
        )
        reasons["data.size"] = f"{whole}: the whole picture, for large objects"
    else:
        window = tuple(min(_SIDE, s) for s in _up((height, width)))
        data = replace(data, size=window, overlap=0.25, flips=(0, 1), mirror_votes=True, rotation=45.0, scaling=0.25, whole=1.0)
        reasons["data.size"] = (
            f"{window}: a typical object spans {size:.1%} of a picture ({height} x {width} as a rule); such small objects are "
            "segmented at the picture's own resolution, in windows"
        )
        reasons["data.flips"] = "both: small objects look alike in a mirror"
        reasons["data.mirror_votes"] = "true: the votes see the mirror images too; better, in twice the time (not with --no-mirror)"
    return data, reasons


def _volumes(facts: tuple[CaseFacts, ...]) -> tuple[DataSettings, dict[str, str]]:
    channels = max(fact.channels for fact in facts)
    reasons = {"data.channels": str(channels)}
    placed = [fact.spacing for fact in facts if fact.spacing is not None]
    spacing = tuple(round(float(s), 3) for s in np.median(placed, axis=0)) if len(placed) == len(facts) else None
    own = [np.array(fact.shape) * (fact.spacing or (1, 1, 1)) / (spacing or fact.spacing or (1, 1, 1)) for fact in facts]
    shape = np.median(own, axis=0)
    data = DataSettings(channels=channels, spacing=spacing)
    if spacing is None:
        reasons["data.spacing"] = "null: the volumes' format knows no millimetres"
    else:
        reasons["data.spacing"] = f"{spacing} mm a voxel, the median of the volumes"
    ratio = max(spacing) / min(spacing) if spacing else 1.0
    thick = int(np.argmax(spacing)) if spacing and ratio >= _ANISOTROPIC else int(np.argmin(shape))
    if ratio >= _ANISOTROPIC or shape[thick] < 2 * _MULTIPLE:
        plane = np.delete(shape, thick)
        size = tuple(min(s, _SIDE) for s in _up(plane))
        data = replace(data, spatial_dims=2, size=size, neighbours=1, slice_axis=thick, shift=8.0)
        why = (
            f"slices are {ratio:.1f} times as thick as pixels" if ratio >= _ANISOTROPIC else f"there are {shape[thick]:.0f} slices"
        )
        reasons["data.spatial_dims"] = f"2: {why}, so each is seen as a picture with its two neighbours"
    else:
        size = _up(shape)
        while math.prod(size) > _VOXELS:
            longest = int(np.argmax(size))
            size = tuple(s - _MULTIPLE if axis == longest else s for axis, s in enumerate(size))
        data = replace(data, spatial_dims=3, size=size)
    said = " x ".join(f"{s:.0f}" for s in shape)
    reasons["data.size"] = f"{data.size}: volumes have {said} voxels as a rule; larger ones are segmented in windows"
    return data, reasons


def _partition(checked: Check, data: DataSettings) -> tuple[DataSettings, dict[str, str]]:
    folds = min(_MOST_FOLDS, len(checked.facts))
    if any(row.get("split") == "test" for row in checked.folder.about.values()):
        others = {row.get("patient", name) for name, row in checked.folder.about.items() if row.get("split") != "test"}
        folds = max(3, min(_MOST_FOLDS, len(others)))
        return replace(data, partition="given", folds=folds), {
            "data.partition": "given: cases.csv says which cases are for the test"
        }
    patients = len(set(groups_of(checked.folder, checked.folder.cases, data.patient).values()))
    folds = min(folds, patients)
    if folds < 3:
        raise UserError(f"{checked.folder.root}: expected cases of at least 3 patients; they are of {patients}.")
    grouped = f", none of the {patients} patients in two of them" if patients < len(checked.facts) else ""
    about = f"stratified: {folds} parts alike in classes and in how much of an image they take{grouped}"
    return replace(data, partition="stratified", folds=folds), {"data.partition": about}


def _up(size: np.ndarray | tuple[float, ...]) -> tuple[int, ...]:
    return tuple(max(2 * _MULTIPLE, math.ceil(round(float(s), 1) / _MULTIPLE) * _MULTIPLE) for s in size)


def _near(size: tuple[float, float]) -> tuple[int, int]:
    rows, columns = (max(2 * _MULTIPLE, round(s / _MULTIPLE) * _MULTIPLE) for s in size)
    return rows, columns
