"""Where the slices of a DICOM series lie, and whether they form a regular volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cdal.imaging.formats.dicom_files import count_of, items_of, numbers_of, text_of
from cdal.runtime.errors import UserError, first_few

_ROUNDING = 0.1
"""Largest deviation from even distances, in slices; anonymisers round positions."""

_SIDEWAYS = 0.25
"""Largest deviation from a straight stack, in pixels. A tilt is more than that."""

_TURNED = 1e-3
"""Largest difference between the direction cosines of slices that count as parallel."""

_FARTHEST = 1e6
"""Largest position and distance in mm that can be meant."""

_SAME = 0.01
"""Distance in pixels below which slices lie in one place, whatever the other distances are."""

_GAP = 1.5
"""Slices further apart than so many usual distances have a gap between them."""

_DISTINGUISHING = (
    "EchoTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "AcquisitionTime",
    "TriggerTime",
    "DiffusionBValue",
    "ImageType",
)
"""Fields in which the volumes of one series may differ; none of them names a patient."""


@dataclass(frozen=True)
class Slice:
    """One plane of pixels: a file, or a frame of a file.

    Attributes:
        name: name of the file, and number of the frame, for messages.
        position: centre of the first pixel in the patient's axes (LPS), in mm.
        right: unit vector along a row, LPS.
        down: unit vector along a column, LPS.
        pixel: distances between rows and between columns, in mm.
        shape: rows and columns.
        thickness: distance between slices as the file gives it, in mm; `None` if it does not.
        values: dataset with the conversion of the stored numbers.
        dataset: dataset of the file.
    """

    name: str
    position: np.ndarray
    right: np.ndarray
    down: np.ndarray
    pixel: np.ndarray
    shape: tuple[int, int]
    thickness: float | None
    values: Any
    dataset: Any

    @property
    def affine(self) -> np.ndarray:
        """From (slice, row, column) to mm in the patient's axes; this slice has the number 0."""
        normal = np.cross(self.down, self.right)
        axes = np.c_[normal * (self.thickness or 1.0), self.down * self.pixel[0]]
        return np.block(
            [
                [axes, self.right[:, None] * self.pixel[1], self.position[:, None]],
                [np.zeros((1, 3)), np.ones((1, 1))],
            ]
        )


@dataclass(frozen=True)
class Stack:
    """The order of slices in a volume, and its geometry.

    Attributes:
        order: index of the slice at each place of the volume.
        affine: from (slice, row, column) to mm in the patient's axes, `[4, 4]`.
    """

    order: tuple[int, ...]
    affine: np.ndarray


def has_place(dataset: Any) -> bool:
    """Whether a dataset has a position in space: a slice has one, a projection has none."""
    return any(
        keyword in dataset
        for keyword in (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "SharedFunctionalGroupsSequence",
        )
    )


def slices_of(name: str, dataset: Any) -> list[Slice]:
    """The slices of a file.

    Args:
        name: name of the file, for messages.
        dataset: dataset of the file.

    Raises:
        UserError: the place of a slice is not given, or makes no sense.
    """
    count = count_of(dataset, "NumberOfFrames")
    if "SharedFunctionalGroupsSequence" not in dataset:
        if count > 1:
            raise UserError(f"{name} holds {count} frames without a place in space.")
        return [_slice(name, dataset, [dataset])]
    shared = items_of(dataset, "SharedFunctionalGroupsSequence")[:1]
    frames = items_of(dataset, "PerFrameFunctionalGroupsSequence")
    if len(frames) != count:
        raise UserError(f"{name}: expected the places of {count} frames; it has {len(frames)}.")
    return [
        _slice(f"{name} frame {i}", dataset, [frame, *shared])
        for i, frame in enumerate(frames, start=1)
    ]


def arrange(slices: Sequence[Slice]) -> Stack:
    """Sort slices into a volume.

    The slices are in the order in which highdicom has them: against the cross product of rows and
    columns.

    Raises:
        UserError: they do not form a regular volume. The message says why, and names the slices.
    """
    _need_alike(slices)
    first = slices[0]
    normal = np.cross(first.down, first.right)
    positions = np.array([plane.position for plane in slices])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    spacing, start = first.thickness or 1.0, first.position
    if len(slices) > 1:
        ordered = [slices[i] for i in order]
        _need_places_apart(ordered, heights[order])
        spacing = _even_spacing(ordered, heights[order])
        start = _straight_start(ordered, positions[order], normal, spacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = normal * spacing, start
    affine[:3, 1], affine[:3, 2] = first.down * first.pixel[0], first.right * first.pixel[1]
    return Stack(tuple(int(i) for i in order), affine)


def _slice(name: str, dataset: Any, groups: Sequence[Any]) -> Slice:
    """Make a slice of the functional groups of a frame, or of a dataset without frames."""

    def field(sequence: str, keyword: str, count: int) -> np.ndarray:
        for group in groups:
            for holder in [group] if group is dataset else items_of(group, sequence):
                if (numbers := numbers_of(holder, keyword, count, name)) is not None:
                    return numbers
        raise UserError(f"{name} has no {keyword}, so its place is not known.")

    cosines = field("PlaneOrientationSequence", "ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    pixel = field("PixelMeasuresSequence", "PixelSpacing", 2)
    if np.abs(lengths - 1).max() > 0.01 or abs(cosines[0] @ cosines[1]) > 0.01:
        raise UserError(
            f"{name}: expected ImageOrientationPatient to hold two perpendicular directions of "
            f"length 1; it holds {cosines.ravel().round(4).tolist()}."
        )
    position = field("PlanePositionSequence", "ImagePositionPatient", 3)
    if pixel.min() < 1 / _FARTHEST or max(pixel.max(), np.abs(position).max()) > _FARTHEST:
        raise UserError(
            f"{name}: expected a position and pixels in millimetres; ImagePositionPatient is "
            f"{position.tolist()}, PixelSpacing {pixel.tolist()}."
        )
    right = cosines[0] / lengths[0]
    down = cosines[1] - right * (right @ cosines[1])
    thickness = None
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = float(field("PixelMeasuresSequence", keyword, 1)[0])
        except UserError:  # these fields are often missing or 0, and the positions say more
            continue
        if 1 / _FARTHEST < value < _FARTHEST:
            thickness = value
            break
    values = next(
        (item for group in groups for item in items_of(group, "PixelValueTransformationSequence")),
        dataset,
    )
    return Slice(
        name,
        position,
        right,
        down / np.linalg.norm(down),
        pixel,
        (count_of(dataset, "Rows"), count_of(dataset, "Columns")),
        thickness,
        values,
        dataset,
    )


def _need_alike(slices: Sequence[Slice]) -> None:
    """Require that all slices are parallel and have the same rows, columns and pixels."""
    if odd := _odd(slices, lambda plane: np.array(plane.shape), 0):
        raise UserError(
            f"the slices have different sizes: {_listed(odd)} of {odd[0].shape} rows and columns, "
            f"others of {_usual(slices, odd).shape}. Move the odd ones elsewhere"
        )
    if odd := _odd(slices, lambda plane: np.r_[plane.right, plane.down], _TURNED):
        usual = _usual(slices, odd)
        cosine = np.cross(usual.right, usual.down) @ np.cross(odd[0].right, odd[0].down)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        raise UserError(
            f"the slices have mixed orientations: {_listed(odd)} lie otherwise than the others "
            f"(turned by {angle:.1f} degrees). Move them elsewhere, if they are a localizer"
        )
    if odd := _odd(slices, lambda plane: plane.pixel / slices[0].pixel, _TURNED):
        raise UserError(
            f"the slices have different pixels: {_listed(odd)} of {odd[0].pixel.tolist()} mm, "
            f"others of {_usual(slices, odd).pixel.tolist()} mm. Move the odd ones elsewhere"
        )


def _need_places_apart(slices: Sequence[Slice], heights: np.ndarray) -> None:
    """Require that no two slices lie in one place."""
    steps = np.diff(heights)
    apart = steps[steps > _SAME * slices[0].pixel.min()]
    close = steps <= _ROUNDING * (np.median(apart) if len(apart) else np.inf)
    if not close.any():
        return
    at = int(np.flatnonzero(close)[0])
    first, second = sorted(slices[at : at + 2], key=lambda plane: plane.name)
    differ = [
        f"{keyword} {text_of(first.dataset, keyword)!r:.40} and "
        f"{text_of(second.dataset, keyword)!r:.40}"
        for keyword in _DISTINGUISHING
        if text_of(first.dataset, keyword) != text_of(second.dataset, keyword)
    ]
    several = (
        f" They differ in {'; '.join(differ)}: are they several volumes in one series?"
        if differ
        else ""
    )
    more = f" (and {int(close.sum()) - 1} more pairs)" if close.sum() > 1 else ""
    raise UserError(
        f"{first.name} and {second.name} share a place{more}.{several} Keep one slice for each "
        "place"
    )


def _even_spacing(slices: Sequence[Slice], heights: np.ndarray) -> float:
    """The distance between slices in mm, which has to be the same everywhere."""
    places = np.arange(len(heights))
    spacing, start = np.polyfit(places, heights, 1)
    if np.abs(heights - (start + spacing * places)).max() <= _ROUNDING * spacing:
        # Voxels halfway between two others must not be decided by the noise of the fit.
        return round(float(spacing), 9)
    steps = np.diff(heights)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    wide = np.flatnonzero(steps > _GAP * usual)
    if len(wide) and (np.abs(np.delete(steps, wide) - usual) <= 2 * _ROUNDING * usual).all():
        gaps = [f"{_between(slices, i)} ({steps[i]:.4g} mm)" for i in wide.tolist()]
        raise UserError(
            f"there is a gap {first_few(gaps)}; the other slices are {usual:.4g} mm apart. Add the "
            "missing slices"
        )
    odd = int(np.abs(steps - usual).argmax())
    raise UserError(
        f"the slices lie at uneven distances, from {steps.min():.4g} to {steps.max():.4g} mm; "
        f"{_between(slices, odd)} it is {steps[odd]:.4g} mm, mostly {usual:.4g} mm. "
        "Resample the series, or add the missing slices"
    )


def _straight_start(
    slices: Sequence[Slice], positions: np.ndarray, normal: np.ndarray, spacing: float
) -> np.ndarray:
    """Position of the first slice of the straight stack that fits best."""
    first, last = slices[0], slices[-1]
    starts = positions - np.outer(np.arange(len(slices)) * spacing, normal)
    start: np.ndarray = starts.mean(axis=0)
    sideways = starts - start
    sideways -= np.outer(sideways @ normal, normal)
    distances = np.linalg.norm(sideways, axis=1)
    if distances.max() <= _SIDEWAYS * first.pixel.min():
        # Exact positions stay exact.
        return positions[0] if distances.max() < 1e-3 else start
    way = positions[-1] - positions[0]
    shift = way - normal * (way @ normal)
    line = np.linspace(-0.5, 0.5, len(slices))
    slope = line @ sideways / (line @ line)
    if np.linalg.norm(sideways - np.outer(line, slope), axis=1).max() < 0.5 * distances.max():
        angle = np.degrees(np.arctan2(np.linalg.norm(shift), abs(way @ normal)))
        raise UserError(
            f"the stack is sheared, as by a gantry tilt of {angle:.1f} degrees: from {first.name} "
            f"to {last.name} the slices move {np.linalg.norm(shift):.3g} mm sideways. Straighten "
            "it first, for example with dcm2niix"
        )
    odd = int(distances.argmax())
    raise UserError(
        f"{slices[odd].name} lies {distances[odd]:.3g} mm sideways of a straight stack. Are all "
        "slices of one scan"
    )


def _odd(
    slices: Sequence[Slice], value: Callable[[Slice], np.ndarray], tolerance: float
) -> list[Slice]:
    """The slices whose value differs from that of most."""
    values = np.array([value(plane) for plane in slices])
    groups: list[np.ndarray] = []
    left = np.ones(len(values), bool)
    while left.any():
        near = left & (np.abs(values - values[left.argmax()]).max(axis=1) <= tolerance)
        groups.append(near)
        left &= ~near
    usual = max(groups, key=lambda group: int(group.sum()))
    return [plane for plane, near in zip(slices, usual, strict=True) if not near]


def _usual(slices: Sequence[Slice], odd: Sequence[Slice]) -> Slice:
    names = {plane.name for plane in odd}
    return next(plane for plane in slices if plane.name not in names)


def _between(slices: Sequence[Slice], at: int) -> str:
    first, second = sorted((slices[at].name, slices[at + 1].name))
    return f"between {first} and {second}"


def _listed(slices: Sequence[Slice]) -> str:
    return first_few([plane.name for plane in slices])
