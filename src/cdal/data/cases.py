"""Cases in memory, the folds they belong to, and batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cdal.data.augment import augment
from cdal.data.batch import Batch
from cdal.data.folder import CaseFiles, DataFolder
from cdal.data.formats import Image, read_image, read_label
from cdal.data.grid import label_to_grid, normalise, to_grid
from cdal.errors import UserError
from cdal.recipe import DataSettings
from cdal.seeds import generator


@dataclass(frozen=True)
class Case:
    """A case on the network's grid.

    Attributes:
        name: of the case.
        image: `[C, *S]` float32, normalised.
        labels: `[R, *S]` uint8, one for each annotator.
    """

    name: str
    image: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Split:
    """The cases of one fold, by part."""

    train: tuple[CaseFiles, ...]
    validation: tuple[CaseFiles, ...]
    test: tuple[CaseFiles, ...]


def split_cases(folder: DataFolder, folds: int, fold: int) -> Split:
    """Case i of the sorted names belongs to part i mod `folds`; test is part k, validation part k + 1, the others train.

    Raises:
        UserError: there are fewer cases than folds.
    """
    if len(folder.cases) < folds:
        raise UserError(f"{folder.root}: expected at least {folds} cases for {folds} folds; it holds {len(folder.cases)}.")
    parts = [folder.cases[part::folds] for part in range(folds)]
    validation = (fold + 1) % folds
    rest = [case for part, cases in enumerate(parts) if part not in (fold, validation) for case in cases]
    return Split(tuple(sorted(rest, key=lambda case: case.name)), parts[validation], parts[fold])


def read_case(files: CaseFiles, classes: Sequence[str]) -> tuple[Image, list[Image]]:
    """A case's image and labels as they are on disk.

    Raises:
        UserError: a file is damaged, a label lies on another grid than its image, or holds classes that were not declared.
    """
    image = read_image(files.image)
    labels = [read_label(path) for path in files.labels]
    for path, label in zip(files.labels, labels, strict=True):
        if label.shape != image.shape:
            raise UserError(f"{path}: expected the shape of its image, {image.shape}; it is {label.shape}.")
        if image.affine is not None and label.affine is not None and not np.allclose(image.affine, label.affine, atol=1e-2):
            raise UserError(f"{path}: expected the affine of its image; it differs, so the two do not lie on each other.")
        largest = int(label.array.max())
        if largest >= len(classes):
            raise UserError(
                f"{path}: expected classes 0 to {len(classes) - 1} ({', '.join(classes)}); it holds {largest}. "
                "Declare the classes in dataset.json, or renumber the label."
            )
    return image, labels


def load_case(files: CaseFiles, classes: Sequence[str], settings: DataSettings) -> Case:
    """A case on the network's grid; errors as `read_case` and `normalise`."""
    image, labels = read_case(files, classes)
    if len(image.shape) < settings.spatial_dims:
        raise UserError(f"{files.image}: expected a volume for data.spatial_dims = 3; it is a picture. Use a 2D recipe.")
    grid = normalise(to_grid(image, settings.spacing, str(files.image)), str(files.image))
    stacked = torch.stack([label_to_grid(label, len(classes), settings.spacing) for label in labels])
    return Case(files.name, grid.as_tensor().contiguous(), stacked)


def load_cases(
    files: Iterable[CaseFiles],
    classes: Sequence[str],
    settings: DataSettings,
    progress: Callable[[], object] = lambda: None,
) -> list[Case]:
    """Decode cases into memory, calling `progress` after each.

    Raises:
        UserError: as `load_case`; or cases have different numbers of channels.
    """
    cases = []
    for one in files:
        cases.append(load_case(one, classes, settings))
        if cases[-1].image.shape[0] != cases[0].image.shape[0]:
            expected, came = cases[0].image.shape[0], cases[-1].image.shape[0]
            raise UserError(f"{one.image}: expected {expected} channel(s), as {cases[0].name} has; it has {came}.")
        progress()
    return cases


def fingerprint(cases: Iterable[Case]) -> str:
    """A checksum of names, images and labels, which tells whether two models saw the same data."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(case.name.encode())
        digest.update(case.image.numpy().tobytes())
        digest.update(case.labels.numpy().tobytes())
    return digest.hexdigest()


def slices_with_neighbours(image: Tensor, settings: DataSettings, indices: Tensor) -> Tensor:
    """Slices of a volume as pictures, each with its neighbours as further channels; beyond the ends the last slice repeats.

    Args:
        image: `[C, *S]` with three axes of space.
        settings: `slice_axis` and `neighbours`.
        indices: `[N]`, the slices wanted.

    Returns:
        `[N, C * (2 * neighbours + 1), H, W]`.
    """
    along = image.movedim(1 + settings.slice_axis, 0)
    offsets = torch.arange(-settings.neighbours, settings.neighbours + 1)
    wanted = (indices[:, None] + offsets).clamp(0, along.shape[0] - 1)
    return along[wanted].flatten(1, 2)


class BatchSource:
    """Training batches: batch number `step` is a function of (seed, step) and nothing else.

    Each case is drawn once before any is drawn again.

    Args:
        cases: to train on.
        settings: patch size and augmentation.
        batch: cases a batch.
        seed: of all draws.
        rank: of this process among those that train together.
    """

    def __init__(self, cases: Sequence[Case], settings: DataSettings, batch: int, seed: int, rank: int = 0) -> None:
        self.cases, self.settings, self.batch, self.seed, self.rank = cases, settings, batch, seed, rank

    def __call__(self, step: int) -> Batch:
        """The batch of a step, on the CPU."""
        drawn = [self._case(step * self.batch + i) for i in range(self.batch)]
        patches = [self._patch(case, generator(self.seed, "patch", step, i, self.rank)) for i, case in enumerate(drawn)]
        images, labels = zip(*patches, strict=True)
        return Batch(torch.stack(images), torch.stack(labels), tuple(case.name for case in drawn))

    def _case(self, position: int) -> Case:
        epoch, index = divmod(position, len(self.cases))
        order = torch.randperm(len(self.cases), generator=generator(self.seed, "order", epoch, self.rank))
        return self.cases[int(order[index])]

    def _patch(self, case: Case, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        image, label = case.image, case.labels[_index(len(case.labels), rng)]
        if image.dim() - 1 > self.settings.spatial_dims:
            chosen = torch.tensor([_index(image.shape[1 + self.settings.slice_axis], rng)])
            image = slices_with_neighbours(image, self.settings, chosen)[0]
            label = label.select(self.settings.slice_axis, int(chosen))
        return augment(image, label, self.settings, rng)


def _index(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))
