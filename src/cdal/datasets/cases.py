"""Cases in memory, and batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cdal.datasets.batch import Batch
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.reading import read_case
from cdal.imaging.augment import augment
from cdal.imaging.grid import label_to_grid, to_grid
from cdal.imaging.intensities import match_channels, normalise
from cdal.imaging.slices import slices_with_neighbours
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.seeds import generator


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


def load_case(files: CaseFiles, folder: DataFolder, settings: DataSettings) -> Case:
    """A case on the network's grid; errors as `read_case`, `match_channels` and `normalise`."""
    image, labels = read_case(files, folder)
    name = str(files.image)
    if len(image.shape) < settings.spatial_dims:
        raise UserError(f"{name}: expected a volume for data.spatial_dims = 3; it is a picture. Use a 2D recipe.")
    image = match_channels(image, settings.channels, name)
    values = normalise(to_grid(image, settings, name), settings.intensities, image.stored, name)
    stacked = np.stack([label_to_grid(label, len(folder.classes), settings) for label in labels])
    return Case(files.name, torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(stacked))


def load_cases(
    files: Sequence[CaseFiles],
    folder: DataFolder,
    settings: DataSettings,
    report: Report = silent,
) -> list[Case]:
    """Decode cases into memory.

    Raises:
        UserError: as `load_case`; or cases have different numbers of channels.
    """
    cases = []
    for number, one in enumerate(files, start=1):
        cases.append(load_case(one, folder, settings))
        if cases[-1].image.shape[0] != cases[0].image.shape[0]:
            expected, came = cases[0].image.shape[0], cases[-1].image.shape[0]
            raise UserError(
                f"{one.image}: expected {expected} channel(s), as {cases[0].name} has; it has {came}. Bring all to one kind, or "
                "say which: --data.channels 1 or 3."
            )
        report(Event("reading", one.name, number, len(files)))
    return cases


def fingerprint(cases: Iterable[Case]) -> str:
    """A checksum of names, images and labels, which tells whether two models saw the same data."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(case.name.encode(errors="surrogateescape"))
        digest.update(case.image.numpy().tobytes())
        digest.update(case.labels.numpy().tobytes())
    return digest.hexdigest()


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
        rngs = [generator(self.seed, "patch", step, i, self.rank) for i in range(len(drawn))]
        images, labels = zip(*(self._seen(case, rng) for case, rng in zip(drawn, rngs, strict=True)), strict=True)
        return Batch(*augment(images, labels, self.settings, rngs), tuple(case.name for case in drawn))

    def _case(self, position: int) -> Case:
        epoch, index = divmod(position, len(self.cases))
        order = torch.randperm(len(self.cases), generator=generator(self.seed, "order", epoch, self.rank))
        return self.cases[int(order[index])]

    def _seen(self, case: Case, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The image and one annotator's classes; of a volume that is cut into slices, one slice."""
        image, label = case.image, case.labels[_index(len(case.labels), rng)]
        if image.dim() - 1 > self.settings.spatial_dims:
            chosen = torch.tensor([_index(image.shape[1 + self.settings.slice_axis], rng)])
            image = torch.from_numpy(
                slices_with_neighbours(image.numpy(), self.settings.slice_axis, self.settings.neighbours, chosen.numpy())[0]
            )
            label = label.select(self.settings.slice_axis, int(chosen))
        return image, label


def _index(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))
