"""Loading cases into memory and drawing batches from them."""

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
from cdal.imaging.position import positions
from cdal.imaging.slices import slices_with_neighbours
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event, Report, silent
from cdal.runtime.seeds import generator


@dataclass(frozen=True)
class Case:
    """A case on the network's grid.

    Attributes:
        name: name of the case.
        image: normalised image, `[C, *S]` float32.
        labels: one label per annotator, `[R, *S]` uint8.
    """

    name: str
    image: Tensor
    labels: Tensor


def load_case(files: CaseFiles, folder: DataFolder, settings: DataSettings) -> Case:
    """Load a case on the network's grid.

    Raises:
        UserError: as for `read_case`, `match_channels` and `normalise`, or the case is a picture
            but `data.spatial_dims` is 3.
    """
    image, labels = read_case(files, folder)
    name = str(files.image)
    if len(image.shape) < settings.spatial_dims:
        raise UserError(
            f"{name}: expected a volume for data.spatial_dims = 3; it is a picture. Use a 2D "
            "recipe."
        )
    image = match_channels(image, settings.channels, name)
    on_grid = to_grid(image, settings, name)
    values = normalise(on_grid.array, settings.intensities, image.stored, name)
    stacked = np.stack([label_to_grid(label, len(folder.classes), settings) for label in labels])
    return Case(
        files.name, torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(stacked)
    )


def load_cases(
    files: Sequence[CaseFiles],
    folder: DataFolder,
    settings: DataSettings,
    report: Report = silent,
) -> list[Case]:
    """Load cases into memory.

    Args:
        files: files of the cases.
        folder: data folder with its classes.
        settings: settings for the grid, channels and intensities.
        report: function that receives an event for each case.

    Raises:
        UserError: as for `load_case`, or the cases have different numbers of channels.
    """
    cases = []
    for number, case_files in enumerate(files, start=1):
        cases.append(load_case(case_files, folder, settings))
        if cases[-1].image.shape[0] != cases[0].image.shape[0]:
            expected, count = cases[0].image.shape[0], cases[-1].image.shape[0]
            raise UserError(
                f"{case_files.image}: expected {expected} channel(s), as {cases[0].name} has; it "
                f"has {count}. Convert all to the same number, or choose one: --data.channels 1 or "
                "3."
            )
        report(Event("reading", case_files.name, number, len(files)))
    return cases


def fingerprint(cases: Iterable[Case]) -> str:
    """Return a checksum of names, images and labels, to detect models trained on the same data."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(case.name.encode(errors="surrogateescape"))
        digest.update(case.image.numpy().tobytes())
        digest.update(case.labels.numpy().tobytes())
    return digest.hexdigest()


class BatchSource:
    """Source of training batches.

    The batch of a step depends on (seed, rank, step) only. Every case is drawn once before any case
    is drawn again.

    Args:
        cases: training cases.
        settings: patch size and augmentation.
        batch: cases per batch.
        seed: random seed for all draws.
        rank: rank of this process if several processes train together.
        annotators: annotators of each image, see `TrainingSettings.annotators`.

    Raises:
        UserError: no case has as many annotators.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: DataSettings,
        batch: int,
        seed: int,
        rank: int = 0,
        annotators: int = 1,
    ) -> None:
        self.cases, self.settings, self.batch = cases, settings, batch
        self.seed, self.rank, self.annotators = seed, rank, annotators
        most = max(len(case.labels) for case in cases)
        if annotators > most:
            raise UserError(
                f"training.annotators is {annotators}; expected at most {most}, as many labels as "
                "a training case has."
            )

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step, on the CPU."""
        drawn = [self._case(step * self.batch + i) for i in range(self.batch)]
        rngs = [generator(self.seed, "patch", step, i, self.rank) for i in range(len(drawn))]
        images, labels, drawn_by_any = zip(
            *(self._seen(case, rng) for case, rng in zip(drawn, rngs, strict=True)), strict=True
        )
        image, moved = augment(images, labels, drawn_by_any, self.settings, rngs)
        if self.settings.position:
            place = torch.tensor(positions(tuple(image.shape[2:])))
            image = torch.cat([image, place.expand(len(image), *place.shape)], dim=1)
        names = tuple(case.name for case in drawn)
        return Batch(image, moved[0], names, moved[1:] if len(moved) > 1 else None)

    def _case(self, position: int) -> Case:
        epoch, index = divmod(position, len(self.cases))
        order = torch.randperm(
            len(self.cases), generator=generator(self.seed, "order", epoch, self.rank)
        )
        return self.cases[int(order[index])]

    def _seen(self, case: Case, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return the image of a case, the labels of random annotators, and what any of them drew.

        An annotator comes twice only if there are fewer than are wanted. Patches are centred on
        what any annotator drew: where it is must not tell what the drawn annotator says. A volume
        is reduced to one random slice if the network is 2D.

        Returns:
            Image `[C, *S]`, labels `[R, *S]` and a label `[*S]`.
        """
        chosen_ones = [_index(len(case.labels), rng)]
        if self.annotators > 1:
            rest = torch.randperm(len(case.labels), generator=rng).tolist()
            rest.remove(chosen_ones[0])
            order = [chosen_ones[0], *rest]
            chosen_ones = [order[i % len(order)] for i in range(self.annotators)]
        image, labels, by_any = case.image, case.labels[chosen_ones], case.labels.amax(dim=0)
        if image.dim() - 1 > self.settings.spatial_dims:
            chosen = torch.tensor([_index(image.shape[1 + self.settings.slice_axis], rng)])
            image = torch.from_numpy(
                slices_with_neighbours(
                    image.numpy(),
                    self.settings.slice_axis,
                    self.settings.neighbours,
                    chosen.numpy(),
                )[0]
            )
            labels = labels.select(1 + self.settings.slice_axis, int(chosen))
            by_any = by_any.select(self.settings.slice_axis, int(chosen))
        return image, labels, by_any


def _index(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))
