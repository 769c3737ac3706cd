"""Cases in memory, and batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cdal.data.augment import augment
from cdal.data.batch import Batch
from cdal.data.folder import CaseFiles, DataFolder
from cdal.data.formats import read_image
from cdal.data.grid import label_to_grid, to_grid
from cdal.data.image import Image
from cdal.data.intensities import match_channels, normalise
from cdal.data.labels import need_on_grid, read_annotation
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


def read_case(files: CaseFiles, folder: DataFolder) -> tuple[Image, list[Image]]:
    """A case's image and its annotators' classes, on its own grid.

    Raises:
        UserError: a file is damaged, a label lies on another grid than its image, or holds classes that were not declared.
    """
    image = read_channels(files)
    labels = [read_annotation(annotation, folder) for annotation in files.labels]
    for annotation, label in zip(files.labels, labels, strict=True):
        need_on_grid(annotation.paths[0], label, image)
    return image, labels


def read_channels(files: CaseFiles, read: Callable[[Path], Image] = read_image) -> Image:
    """The image of a case, its channels' files put together.

    Args:
        files: of the case.
        read: `read_image`, or another reader.

    Raises:
        UserError: a file is damaged, or the files lie on different grids.
    """
    first, *others = (read(path) for path in files.images)
    for path, other in zip(files.images[1:], others, strict=True):
        placed = first.affine is None or other.affine is None or np.allclose(first.affine, other.affine, atol=1e-2)
        if other.shape != first.shape or not placed:
            raise UserError(
                f"{path}: expected the shape and the affine of {files.image.name}, {first.shape}; it has {other.shape}."
            )
    return replace(first, array=np.concatenate([first.array, *[other.array for other in others]])) if others else first


def load_case(files: CaseFiles, folder: DataFolder, settings: DataSettings) -> Case:
    """A case on the network's grid; errors as `read_case`, `match_channels` and `normalise`."""
    image, labels = read_case(files, folder)
    name = str(files.image)
    if len(image.shape) < settings.spatial_dims:
        raise UserError(f"{name}: expected a volume for data.spatial_dims = 3; it is a picture. Use a 2D recipe.")
    image = match_channels(image, settings.channels, name)
    grid = normalise(to_grid(image, settings, name), settings.intensities, image.stored, name)
    stacked = torch.stack([label_to_grid(label, len(folder.classes), settings) for label in labels])
    return Case(files.name, grid.as_tensor().contiguous(), stacked)


def load_cases(
    files: Iterable[CaseFiles],
    folder: DataFolder,
    settings: DataSettings,
    progress: Callable[[], object] = lambda: None,
) -> list[Case]:
    """Decode cases into memory, calling `progress` after each.

    Raises:
        UserError: as `load_case`; or cases have different numbers of channels.
    """
    cases = []
    for one in files:
        cases.append(load_case(one, folder, settings))
        if cases[-1].image.shape[0] != cases[0].image.shape[0]:
            expected, came = cases[0].image.shape[0], cases[-1].image.shape[0]
            raise UserError(
                f"{one.image}: expected {expected} channel(s), as {cases[0].name} has; it has {came}. Bring all to one kind, or "
                "say which: --data.channels 1 or 3."
            )
        progress()
    return cases


def fingerprint(cases: Iterable[Case]) -> str:
    """A checksum of names, images and labels, which tells whether two models saw the same data."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(case.name.encode(errors="surrogateescape"))
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
