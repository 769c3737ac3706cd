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

LAST_KEY = 0
"""Last key of every draw. It has no meaning, and stays so that trainings can be repeated."""


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
        need_channels(case_files, cases[-1], cases[0])
        report(Event("reading", case_files.name, number, len(files)))
    return cases


def need_channels(files: CaseFiles, case: Case, first: Case) -> None:
    """Require that a case has as many channels as the first one.

    Raises:
        UserError: it has more or fewer.
    """
    expected, count = first.image.shape[0], case.image.shape[0]
    if count != expected:
        raise UserError(
            f"{files.image}: expected {expected} channel(s), as {first.name} has; it has {count}. "
            "Convert all to the same number, or choose one: --data.channels 1 or 3."
        )


def fingerprints(*parts: Iterable[Case]) -> list[str]:
    """Checksums of names, images and labels, to detect models trained on the same data.

    Args:
        parts: cases. Each is looked at once, and only one is held at a time.

    Returns:
        For each part the checksum of its cases and of those of all parts before it.
    """
    digest, found = hashlib.sha256(), []
    for part in parts:
        for case in part:
            digest.update(case.name.encode(errors="surrogateescape"))
            digest.update(case.image.numpy().tobytes())
            digest.update(case.labels.numpy().tobytes())
        found.append(digest.hexdigest())
    return found


class BatchSource:
    """Source of training batches.

    The batch of a step depends on (seed, step) only. Every case is drawn once before any case is
    drawn again. Several ranks have slices of it: the first has the first samples, and so on.

    Args:
        cases: training cases.
        settings: patch size and augmentation.
        batch: cases per batch, over all ranks together.
        seed: random seed for all draws.
        annotators: annotators of each image, see `TrainingSettings.annotators`.
        rank: number of this rank.
        ranks: number of ranks, by which the batch can be divided.

    Raises:
        UserError: no case has as many annotators.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: DataSettings,
        batch: int,
        seed: int,
        annotators: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.cases, self.settings, self.batch = cases, settings, batch
        self.seed, self.annotators = seed, annotators
        slice_size = batch // ranks
        self.positions = range(rank * slice_size, (rank + 1) * slice_size)
        """Positions in the batch of the samples of this rank."""
        most = 1 if annotators == 1 else max(len(case.labels) for case in cases)
        if annotators > most:
            raise UserError(
                f"training.annotators is {annotators}; expected at most {most}, as many labels as "
                "a training case has."
            )

    def __call__(self, step: int) -> Batch:
        """Return this rank's slice of the batch of a step, on the CPU."""
        drawn = [self._case(step * self.batch + i) for i in self.positions]
        rngs = [generator(self.seed, "patch", step, i, LAST_KEY) for i in self.positions]
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
            len(self.cases), generator=generator(self.seed, "order", epoch, LAST_KEY)
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
