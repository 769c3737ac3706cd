"""The model that a training starts from, instead of random weights.

Only the weights of the predicting player are in a model file. So the optimisers, the schedule of
the learning rate and the discriminator, if there is one, start anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cdal.datasets.check import Check
from cdal.datasets.folder import named_as
from cdal.recipes.recipe import Recipe, to_dict, words_of
from cdal.runtime.errors import UserError, first_few
from cdal.runtime.events import Event, Report
from cdal.runtime.files import digest_of
from cdal.segmenters.find_models import find_model
from cdal.segmenters.model_file import load_segmenters
from cdal.segmenters.model_header import ModelHeader, read_header
from cdal.segmenters.segmenter import Segmenter
from cdal.segmenters.trust import need_trusted

_WITHOUT_WEIGHTS = ("segmenter.votes",)
"""Settings of a segmenter that may differ: nothing that is learned depends on them."""

_OF_THE_NETWORK = ("data.spatial_dims", "data.neighbours")
_OF_THE_GRID = ("spacing", "resize", "size", "intensities", "slice_axis")


@dataclass(frozen=True)
class Start:
    """A model to start from.

    Attributes:
        path: path of its file.
        header: its header.
        digest: checksum of the file.
    """

    path: Path
    header: ModelHeader
    digest: str

    @property
    def name(self) -> str:
        """Name of the file, or of the run folder that it is in."""
        return self.path.parent.resolve().name if self.path.stem == "model" else self.path.stem

    def about(self) -> dict[str, Any]:
        """What a model file records: which model it was, and which cases that one has seen."""
        names, images = self.header.seen
        seen = {"images": sorted(images)} if images else {"names": sorted(names)}
        return {"name": self.name, "digest": self.digest, **seen}

    def licence_with(self, licence: str) -> str:
        """The licences of the model's training data and of other data."""
        return "; ".join(dict.fromkeys(text for text in (self.header.licence, licence) if text))

    def need_fitting(self, recipe: Recipe) -> None:
        """Require that a recipe's network is that of the model.

        Raises:
            UserError: the segmenter or the axes that it sees differ; the message says in what.
        """
        before, now = _flat(self.header.recipe), _flat(recipe)
        differing = [
            name
            for name in {**before, **now}
            if (name.startswith("segmenter.") or name in _OF_THE_NETWORK)
            and name not in _WITHOUT_WEIGHTS
            and before.get(name) != now.get(name)
        ]
        if not differing:
            return
        if "segmenter.name" in differing:
            differing, words = ["segmenter.name"], ["--segmenter", str(before["segmenter.name"])]
        else:
            words = words_of({name: before[name] for name in differing if name in before})
        listed = [
            f"{name} is {before.get(name)!r} there and {now.get(name)!r} here" for name in differing
        ]
        raise UserError(
            f"{self.path} cannot be started from: {'; '.join(listed)}. Give {' '.join(words)}; or "
            "the recipe folder, which takes all from the model; or train without --from."
        )

    def named(self, checked: Check, report: Report) -> Check:
        """Give a data folder that names no classes those of the model.

        Raises:
            UserError: the folder declares other classes, or in another order.
        """
        folder, note = named_as(checked.folder, self.header.classes)
        if note:
            report(Event("training", message=note))
        if folder.classes != self.header.classes:
            raise UserError(
                f"{folder.root}: expected the classes {', '.join(self.header.classes)}, in this "
                f"order, which {self.path} has; there are {', '.join(folder.classes)}. Name and "
                "order them so in dataset.json, or train without --from."
            )
        return replace(checked, folder=folder)

    def need_channels(self, channels: int) -> None:
        """Require as many channels as the model's images have.

        Raises:
            UserError: there are more or fewer.
        """
        if channels != (expected := self.header.image_channels):
            raise UserError(
                f"{self.path} cannot be started from: its images have {expected} channel(s), these "
                f"have {channels}. Give images of the same kind (colours and gray pictures: "
                f"--data.channels {expected}), or train without --from."
            )

    def doubts(self, recipe: Recipe, test: Sequence[str], digests: dict[str, str]) -> Iterator[str]:
        """What the user should know: other intensities or another grid, and tests without worth.

        Args:
            recipe: recipe of the training.
            test: names of the test cases.
            digests: checksums of the images of each case.
        """
        before, now = self.header.recipe.data, recipe.data
        for name in _OF_THE_GRID:
            if (old := getattr(before, name)) != (new := getattr(now, name)):
                yield (
                    f"data.{name} is {new}; {self.name} was trained with {old}, and has to learn "
                    "its images anew"
                )
        known = self.header.seen
        if seen := [name for name in test if known.holds(name, digests.get(name))]:
            yield (
                f"{len(seen)} of the {len(test)} test cases were seen by {self.name} in training "
                f"({first_few(seen)}): scores on them would be too good, and cdal evaluate refuses "
                "them"
            )

    def load_into(self, segmenter: Segmenter, recipe: Recipe) -> None:
        """Load the weights of the predicting player.

        Raises:
            UserError: the weights do not fit the recipe, or some of them are not finite.
        """
        (loaded,) = load_segmenters(self.path, self.header, [recipe], str(segmenter.device))
        weights = loaded.players()[loaded.predictor].state_dict()
        segmenter.players()[segmenter.predictor].load_state_dict(weights)


def find_start(model: Path | str) -> Start:
    """Find the model to start from.

    Args:
        model: a `.safetensors` file, a run folder, or the name of a shipped model.

    Raises:
        UserError: there is no such model, it is an ensemble, or its network is not trusted.
    """
    path = find_model(model)
    header = read_header(path)
    if header.members:
        raise UserError(
            f"{path} is an ensemble of {len(header.members)} models; a training starts from one. "
            "Give one of those that it was made of."
        )
    need_trusted(path, header.recipe)  # a training names its own network, not that of a file
    return Start(path, header, digest_of(path))


def _flat(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe by their names on the command line."""
    return {
        f"{part}.{name}": value
        for part, fields in to_dict(recipe).items()
        if isinstance(fields, dict)
        for name, value in fields.items()
    }
