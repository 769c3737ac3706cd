"""A trained segmenter that segments images of any size, on their own grids."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from cdal.imaging.formats import stem_of
from cdal.imaging.grid import Frame, resized
from cdal.imaging.image import Image
from cdal.imaging.intensities import Scale, match_channels
from cdal.imaging.matched import Matched
from cdal.imaging.open import open_image
from cdal.imaging.rows import LARGE, Rows
from cdal.inference.decision import decide, spread, temper
from cdal.inference.engine import Engine
from cdal.inference.footprint import need_room
from cdal.inference.glass import Kept, looks_for_glass, windows_to_keep
from cdal.inference.judge import Judge
from cdal.inference.quality import sampled
from cdal.inference.sampling import Sampling
from cdal.inference.segmented import Band, Segmented
from cdal.inference.signs import Signs
from cdal.inference.suitable import need_suitable
from cdal.inference.voting import Drawer, vote_bands, votes_drawn
from cdal.inference.windows import Plan, Read
from cdal.recipes.recipe import Recipe
from cdal.runtime.ahead import one_ahead
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import ModelHeader

_MODES = ("L", "I;16", "I", "F", "RGB")
"""Modes of Pillow images whose pixels are intensities or colours and nothing else."""

_ORIENTATION = 0x0112
"""Tag of the orientation in EXIF."""


@dataclass(frozen=True)
class Prediction:
    """A segmentation on the grid of its image.

    Attributes:
        mask: class of each voxel, `[*S]` uint8.
        probability: mean of the votes at the model's temperature, `[K, *S]` float32; see
            `cdal.inference.decision.temper`.
        uncertainty: spread of the votes, `[*S]` float32; see `cdal.inference.decision.spread`.
        count: number of votes V. A deterministic segmenter has one for each mirror image at most.
        votes: probabilities of each vote, `[V, K, *S]` float32, if they were requested.
        image: the segmented image.
        on_grid: mean of the votes of a picture on the network's grid, `[K, *grid]`.
        components: number of components kept of each class; 0 means all.
        signs: signs of the quality.
        judgement: estimated quality, warnings and verdict, see `Judge.verdict`.
        weights: weights of the classes `[K]` for `on_grid`; `None` for equal ones.
    """

    mask: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
    count: int
    votes: np.ndarray | None = None
    image: Image | None = field(default=None, repr=False)
    on_grid: np.ndarray | None = field(default=None, repr=False)
    components: int = 0
    signs: Signs = field(default_factory=lambda: Signs(0), repr=False)
    weights: np.ndarray | None = None
    judgement: Mapping[str, Any] = field(default_factory=dict)

    def mask_at(self, size: tuple[int, int] | None) -> np.ndarray:
        """The mask of a picture at another size, `[*size]`; at its own size if `None`."""
        if size is None or self.on_grid is None:
            return self.mask
        return decide(resized(self.on_grid, size), self.components, self.weights)


class Predictor:
    """A trained segmenter, ready for images. `cdal.load` makes one.

    Attributes:
        engine: engine that computes the segmenter.
        header: header of the model file.
        sampling: options of sampling, as the user gave them.
        recipe: recipe of the model, with these options.
        votes: number of votes V for each image.
        temperature: temperature for calibrating probabilities.
        judge: judge of the quality of a segmentation.
        path: path of the model file; `None` for a model that came from elsewhere, or from several
            files.
        name: name that the user gave for the model.
        files: paths of all model files.
    """

    def __init__(
        self,
        engine: Engine,
        header: ModelHeader,
        recipe: Recipe,
        sampling: Sampling,
        path: Path | None = None,
        name: str = "",
        files: Sequence[Path] = (),
    ) -> None:
        self.engine, self.header, self.recipe, self.sampling = engine, header, recipe, sampling
        self.path, self.name = path, name
        self.files = tuple(files) or (() if path is None else (path,))
        asked = recipe.segmenter.votes if sampling.votes is None else sampling.votes
        self.votes = votes_drawn(engine, recipe, asked)
        self.temperature = next(
            t for t in (sampling.temperature, header.temperature, 1.0) if t is not None
        )
        self.judge = Judge(header, recipe.data, sampled(self.about(), self.votes), sampling, path)

    def predict(
        self,
        source: Path | str | np.ndarray | Pillow.Image | Rows | Any,
        case: str | None = None,
        keep_votes: bool = False,
        name: str | None = None,
        votes: int | None = None,
    ) -> Prediction:
        """Segment one image.

        Args:
            source: path of a file or of the folder of a DICOM series; an array or a PyTorch tensor
                `[*S]` or `[C, *S]` of a picture (rows, columns) or a volume; a Pillow image in
                gray or colours; or an `Image`. An array of a volume is taken to have the recipe's
                spacing and the axes right, anterior, superior.
            case: name that decides the random draws, together with the seed; that of the file if
                `None`.
            keep_votes: whether to return each vote.
            name: name of the image in errors; that of the file if `None`.
            votes: number of votes V to draw; that of the predictor if `None`.

        Returns:
            The segmentation on the image's own grid.

        Raises:
            UserError: the image cannot be read, or does not suit the model.
        """
        count = self.votes
        if votes is not None:
            replace(self.sampling, votes=votes)  # refuses a number that is too low
            count = votes_drawn(self.engine, self.recipe, votes)
        file = isinstance(source, (str, os.PathLike))
        name = name or (str(source) if file else case or "the image")
        case = case or (stem_of(Path(source)) if file else "array")  # type: ignore[arg-type]
        with self._opened(source) as image:
            frame = self.frame(image, name)
            keep = ("probability", "uncertainty", *(["votes"] if keep_votes else []))
            classes = len(self.header.classes)
            by_votes = count if self.decides_later else None
            need_room(frame, self.recipe, classes, count, keep, name, True, self.decides_later)
            segmented = Segmented(frame, classes, self.recipe.data.components, keep, votes=by_votes)
            on_grid: list[np.ndarray] | None = [] if frame.planar else None
            signs = segmented.signs
            for band in self.bands(frame, case, name, None, keep_votes, on_grid, count, signs):
                segmented.take(band)
            segmented.finish(self.temperature)
            return Prediction(
                mask=segmented.straight("mask"),
                probability=segmented.straight("probability"),
                uncertainty=segmented.straight("uncertainty"),
                count=count,
                votes=segmented.straight("votes") if keep_votes else None,
                image=image if isinstance(image, Image) else None,
                on_grid=np.concatenate(on_grid, axis=1) if on_grid else None,
                components=self.recipe.data.components,
                signs=signs,
                judgement=self.judge.verdict(signs, image.like),
                weights=None if signs.ballot is None else signs.ballot.weights(1.0),
            )

    @property
    def decides_later(self) -> bool:
        """Whether a mask is chosen after all votes, see `DataSettings.decision`."""
        return self.recipe.data.decision == "expected-dice"

    def frame(self, image: Rows, name: str) -> Frame:
        """The frame of an image: its way to the network's grid and back.

        Raises:
            UserError: as `need_suitable`; or the image has other channels than the model takes.
        """
        data = self.recipe.data
        need_suitable(image, self.header, data, name)
        channels = self.header.image_channels
        matched = (
            match_channels(image, channels, name)
            if isinstance(image, Image)
            else Matched(image, channels, name)
        )
        return Frame(matched, data, name)

    def bands(
        self,
        frame: Frame,
        case: str,
        name: str,
        rows: int | None = None,
        keep_votes: bool = False,
        on_grid: list[np.ndarray] | None = None,
        votes: int | None = None,
        signs: Signs | None = None,
    ) -> Iterator[Band]:
        """Segment an image some rows at a time. Memory does not grow with the number of rows.

        Args:
            frame: frame of the image, see `frame`.
            case: name that decides the random draws, together with the seed.
            name: name of the image in errors.
            rows: number of rows of each band; as they come from the network if `None`. The result
                does not depend on it.
            keep_votes: whether the bands hold each vote.
            on_grid: list that receives the mean of the votes on the network's grid.
            votes: number of votes V; that of the predictor if `None`.
            signs: receives the signs of quality that the votes and the image give.

        Yields:
            The next rows, from the first to the last.

        Raises:
            UserError: as `Judge.see`; or the model does not give what its header says.
        """
        read, classes = self.reader(frame, name), len(self.header.classes)
        if signs is not None:
            self.judge.see(signs, read, frame, name)
        count = self.votes if votes is None else votes
        rng = self.engine.generator(self.sampling.seed, case)
        seen = self._seen(frame, read, case, count)
        if signs is not None and seen is not None:
            signs.skipped = seen.skipped
        ahead = math.prod(frame.shape) > LARGE
        plan = Plan(None if seen is None else seen.windows, classes=classes, ahead=ahead)

        def moments() -> Iterator[np.ndarray]:
            """Mean `[K, h, *rest]`, spread `[1, h, *rest]` and perhaps all votes, concatenated."""
            for drawn in vote_bands(self.engine, read, frame.shape, self.recipe, count, rng, plan):
                mean = drawn.mean(axis=0)
                if len(mean) != classes:
                    raise UserError(
                        f"{name}: the model gives {len(mean)} classes; its header names {classes}. "
                        "Does the file beside the graph belong to it?"
                    )
                if on_grid is not None:
                    on_grid.append(mean)
                if signs is not None:
                    signs.see_votes(drawn)
                yield np.concatenate([mean, spread(drawn)[None], *(drawn if keep_votes else [])])

        # Resampling is linear, so the mean may be taken first. The class is decided last.
        for values in frame.back(one_ahead(moments()) if ahead else moments(), rows):
            kept = (
                values[classes + 1 :].reshape(-1, classes, *values.shape[1:])
                if keep_votes
                else None
            )
            yield Band(temper(values[:classes], self.temperature), values[classes], kept)

    def _seen(self, frame: Frame, read: Read, case: str, count: int) -> Kept | None:
        """The windows of a slide that show tissue; `None` if all have to be computed."""
        data = self.recipe.data
        kept = windows_to_keep(frame, data) if self.sampling.skip else None
        if kept is None:
            return None
        rng = self.engine.generator(self.sampling.seed, case, "glass")
        draw = Drawer(self.engine, self.recipe, count, rng)
        return None if looks_for_glass(draw, read, kept, frame.shape, data) else kept

    def about(self) -> dict[str, Any]:
        """How the model segments, for records.

        The keys are `recipe`, `segmenter`, `timesteps`, `flips` (seen by the votes), `components`,
        `decision` and `temperature`; for an ensemble also `members`, their number.
        """
        data, settings = self.recipe.data, self.recipe.segmenter
        return {
            "recipe": self.recipe.name,
            "segmenter": settings.name,
            "timesteps": settings.diffusion_steps,
            "flips": list(data.flips) if data.mirror_votes else [],
            "components": data.components or "all",
            "decision": self.recipe.data.decision,
            "temperature": self.temperature,
            **({"members": len(self.header.members)} if self.header.members else {}),
        }

    def reader(self, frame: Frame, name: str) -> Read:
        """A reader of rows on the network's grid, with normalised intensities.

        The scale is that of the whole image. It is measured on all voxels, or on evenly spaced rows
        if there are more than `LARGE` voxels.
        """
        how, stored, length = self.recipe.data.intensities, frame.image.stored, frame.shape[0]
        if math.prod(frame.shape) <= LARGE:
            values = frame.read(0, length)
            normalised = Scale.of(values, how, stored, name).apply(values)
            return lambda start, stop: normalised[:, start:stop]
        step = math.ceil(math.prod(frame.shape) / LARGE) if how == "image" else length
        sample = np.concatenate(
            [frame.read(row, row + 1) for row in range(0, length, step)], axis=1
        )
        scale = Scale.of(sample, how, stored, name)
        return lambda start, stop: scale.apply(frame.read(start, stop))

    @contextmanager
    def _opened(self, source: Any) -> Iterator[Rows]:
        if isinstance(source, (str, os.PathLike)):
            with open_image(Path(source), fourth_axis=self.header.image_channels) as image:
                yield image
        elif hasattr(source, "rows") and hasattr(source, "like"):
            yield source
        else:
            yield self._from_array(array_of(source))

    def _from_array(self, array: np.ndarray) -> Image:
        if not array.size:
            raise UserError(f"the array: expected an image; its shape is {array.shape}.")
        if not np.isfinite(array).all():
            raise UserError("the array: expected finite intensities; some are NaN or infinite.")
        dims, channels = self.recipe.data.spatial_dims, self.header.image_channels
        with_channels = array if array.ndim > dims and array.shape[0] == channels else array[None]
        colours = (
            with_channels.ndim == 4 and min(array.shape[0], array.shape[-1]) <= 4 and dims == 2
        )
        if with_channels.ndim - 1 not in (2, 3) or colours:
            raise UserError(
                f"the array: expected [H, W] or [{channels}, H, W] of a picture (channels first), "
                f"or a volume of three axes; its shape is {array.shape}."
            )
        ranged = array.dtype in (np.uint8, np.uint16) or (
            array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1
        )
        if self.recipe.data.intensities == "range" and not ranged:
            raise UserError(
                "the array: expected uint8, uint16, or floating point from 0 to 1, as the model "
                f"takes intensities by their range; it is {array.dtype} from {array.min()} to "
                f"{array.max()}."
            )
        return Image(with_channels.astype(np.float32), stored=array.dtype)


def array_of(source: Any) -> np.ndarray:
    """The numbers of an array, a PyTorch tensor or a Pillow image, channels first.

    Raises:
        UserError: it is something else, or it could be understood in more than one way.
    """
    if isinstance(source, Pillow.Image):
        if source.getexif().get(_ORIENTATION, 1) != 1:
            raise UserError(
                "the Pillow image is stored turned. Turn it first: PIL.ImageOps.exif_transpose."
            )
        if source.mode not in _MODES:
            raise UserError(
                f"the Pillow image has the mode {source.mode}; expected one of {', '.join(_MODES)}."
                ' Convert it first: image.convert("RGB") for colours, image.convert("L") for gray.'
            )
        pixels = np.asarray(source)
        return pixels if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if hasattr(source, "detach") and hasattr(source, "cpu"):  # a tensor of PyTorch
        source = source.detach().cpu()
        source = source.float() if str(source.dtype) == "torch.bfloat16" else source
        source = source.numpy()
    if not isinstance(source, np.ndarray) or source.dtype.kind not in "uifb":
        kind = f"an array of {source.dtype}" if isinstance(source, np.ndarray) else type(source)
        raise UserError(
            "expected the path of an image, an array or tensor of numbers, a Pillow image or a "
            f"cDAL image; it is {kind}."
        )
    return source
