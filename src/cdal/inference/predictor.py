"""A trained segmenter, ready for images: from an array or a file to a segmentation on the image's own grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.formats import read_image, stem_of
from cdal.imaging.grid import from_grid, resized, to_grid
from cdal.imaging.image import Image
from cdal.imaging.intensities import Scale, match_channels, normalise
from cdal.imaging.rows import Regions
from cdal.inference.decision import decide, spread, temper
from cdal.inference.engine import Engine
from cdal.inference.voting import draw_votes, drawer, votes_drawn
from cdal.inference.windows import blend
from cdal.recipes.recipe import Recipe
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import ModelHeader

_SAMPLE = 2**24
"""Pixels from which a large picture's intensities are measured, in rows at even distances."""


@dataclass(frozen=True)
class Prediction:
    """A segmentation on the grid of its image.

    Attributes:
        mask: `[*S]` uint8, the class of each voxel.
        probability: `[K, *S]` float32, the mean over the votes, at the model's temperature (`cdal.inference.decision.temper`).
        uncertainty: `[*S]` float32, the spread of the votes, see `cdal.inference.decision.spread`.
        count: V, the votes that were drawn: for a segmenter without chance no more than there are flips.
        votes: `[V, K, *S]` float32 where they were asked for.
        image: what was segmented.
        on_grid: `[K, *grid]`, the mean over the votes on the network's grid.
        components: that each class keeps, see `cdal.inference.decision.decide`.
    """

    mask: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
    count: int
    votes: np.ndarray | None = None
    image: Image | None = field(default=None, repr=False)
    on_grid: np.ndarray | None = field(default=None, repr=False)
    components: int = 0

    def mask_at(self, size: tuple[int, int] | None) -> np.ndarray:
        """The classes of a picture decided at another size, `[*size]`; none is its own."""
        if size is None or self.on_grid is None:
            return self.mask
        return decide(resized(self.on_grid, size), self.components)


class Predictor:
    """A trained segmenter, ready for images. `cdal.load` makes one.

    Attributes:
        engine: computes the segmenter.
        header: what the model file says of itself.
        recipe: the header's, with the sampling settings asked for.
        temperature: the header's, 1 where it has none, or the one asked for.
    """

    def __init__(self, engine: Engine, header: ModelHeader, recipe: Recipe, temperature: float | None = None) -> None:
        self.engine, self.header, self.recipe = engine, header, recipe
        self.temperature = next(one for one in (temperature, header.temperature, 1.0) if one is not None)

    def predict(
        self,
        source: Path | str | np.ndarray | Image,
        votes: int | None = None,
        seed: int = 0,
        case: str | None = None,
        keep_votes: bool = False,
        name: str | None = None,
    ) -> Prediction:
        """Segment one image.

        Args:
            source: a file; or an array `[*S]` or `[C, *S]` of a picture (rows, columns) or a volume, which is then taken to have
                the recipe's spacing, its axes right, anterior, superior; or an `Image`.
            votes: V; the recipe's number where none is given.
            seed: with `case`, of every random draw.
            case: a name; the file's where none is given.
            keep_votes: whether to return each vote.
            name: what to call the image in an error; the file's where none is given.

        Returns:
            The segmentation on the image's own grid.

        Raises:
            UserError: the image cannot be read, or is not of the kind that the model was trained on.
        """
        name = name or (str(source) if isinstance(source, (str, Path)) else case or "the image")
        image = self._image(source, name)
        case = case or (stem_of(Path(source)) if isinstance(source, (str, Path)) else "array")
        votes = self._asked(votes)
        data = self.recipe.data
        grid = to_grid(image, data, name)
        values = normalise(grid.array, data.intensities, image.stored, name)
        drawn = draw_votes(self.engine, values, self.recipe, votes, self.engine.generator(seed, case))
        # Resampling is linear, so the mean may be taken first; the class is decided last, on the image's own grid.
        on_grid = drawn.mean(axis=0)
        probability = temper(from_grid(on_grid, grid, image), self.temperature)
        uncertainty = from_grid(spread(drawn)[None], grid, image)[0]
        kept = np.stack([from_grid(vote, grid, image) for vote in drawn]) if keep_votes else None
        mask = decide(probability, data.components)
        return Prediction(mask, probability, uncertainty, len(drawn), kept, image, on_grid, data.components)

    def predict_by_region(
        self,
        regions: Regions,
        name: str,
        votes: int | None = None,
        seed: int = 0,
        case: str = "array",
        on_band: Callable[[float], object] = lambda _: None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Segment a large picture some rows at a time, with memory that does not grow with its height.

        Args:
            regions: the picture, see `cdal.imaging.rows`.
            name: what to call it in an error.
            votes: V; the recipe's number where none is given.
            seed: with `case`, of every random draw.
            case: a name.
            on_band: called after some rows with the share that is done.

        Yields:
            Probabilities `[K, h, W]` and the uncertainty `[h, W]` of the next rows, from the top.

        Raises:
            UserError: the picture is not of the kind that the model was trained on.
        """
        data, channels = self.recipe.data, self.header.image_channels
        if not self.streams(regions.shape):
            hint = " To find the largest components takes the whole picture; --components 0 keeps all." if data.components else ""
            raise UserError(f"{name}: this model cannot segment a picture of {regions.shape} by region.{hint}")
        votes = self._asked(votes)

        def match(rows: np.ndarray) -> np.ndarray:
            if not np.isfinite(rows).all():
                raise UserError(f"{name}: expected finite intensities; some are NaN or infinite. Replace them (with 0, say) first.")
            return match_channels(Image(rows, stored=regions.stored), channels, name).array

        height, width = regions.shape
        step = max(1, math.ceil(height * width / _SAMPLE)) if data.intensities == "image" else height
        sample = np.concatenate([match(regions.rows(row, row + 1)) for row in range(0, height, step)], axis=1)
        scale = Scale.of(sample, data.intensities, regions.stored, name)
        draw = drawer(self.engine, self.recipe, votes, self.engine.generator(seed, case))
        for top, drawn in blend(draw, lambda start, stop: scale.apply(match(regions.rows(start, stop))), regions.shape, data):
            yield temper(drawn.mean(axis=0), self.temperature), spread(drawn)
            on_band((top + drawn.shape[2]) / height)

    def about(self) -> dict[str, Any]:
        """How it segments, for records.

        `recipe`, `segmenter`, `timesteps`, `flips` that the votes see, `components` that stay, `temperature` of the probabilities.
        """
        data, settings = self.recipe.data, self.recipe.segmenter
        return {
            "recipe": self.recipe.name,
            "segmenter": settings.name,
            "timesteps": settings.diffusion_steps,
            "flips": list(data.flips) if data.mirror_votes else [],
            "components": data.components or "all",
            "temperature": self.temperature,
        }

    def vote_count(self, votes: int | None) -> int:
        """The votes that are drawn where so many are asked for; of the recipe's number where none is given."""
        return votes_drawn(self.engine, self.recipe, self._asked(votes))

    def streams(self, shape: tuple[int, ...]) -> bool:
        """Whether a picture of this shape can be segmented by region.

        The network sees its own pixels, in windows, and all components of a class are kept.
        """
        data = self.recipe.data
        windows = len(shape) == 2 and all(s >= size for s, size in zip(shape, data.size, strict=False))
        return windows and data.spatial_dims == 2 and data.resize is None and data.neighbours == data.components == 0

    def _asked(self, votes: int | None) -> int:
        return need_votes(self.recipe.segmenter.votes if votes is None else votes)

    def _image(self, source: Path | str | np.ndarray | Image, name: str) -> Image:
        if isinstance(source, np.ndarray):
            source = self._from_array(source)
        image = source if isinstance(source, Image) else read_image(Path(source))
        dims = self.recipe.data.spatial_dims
        if len(image.shape) < dims:
            raise UserError(f"{name}: expected a volume of {dims} axes; it is a picture of shape {image.shape}.")
        if self.recipe.data.resize is not None and len(image.shape) != 2:
            raise UserError(f"{name}: expected a picture, which this model sees whole; it is a volume of shape {image.shape}.")
        return match_channels(image, self.header.image_channels, name)

    def _from_array(self, array: np.ndarray) -> Image:
        if not np.isfinite(array).all():
            raise UserError("the array: expected finite intensities; some are NaN or infinite.")
        dims, channels = self.recipe.data.spatial_dims, self.header.image_channels
        with_channels = array if array.ndim > dims and array.shape[0] == channels else array[None]
        colours = with_channels.ndim == 4 and min(array.shape[0], array.shape[-1]) <= 4 and dims == 2
        if with_channels.ndim - 1 not in (2, 3) or colours:
            raise UserError(
                f"the array: expected [H, W] or [{channels}, H, W] of a picture (channels first), or a volume of three axes; its "
                f"shape is {array.shape}."
            )
        ranged = array.dtype in (np.uint8, np.uint16) or (array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1)
        if self.recipe.data.intensities == "range" and not ranged:
            raise UserError(
                f"the array: expected uint8, uint16, or floating point from 0 to 1, as the model takes intensities by their range; "
                f"it is {array.dtype} from {array.min()} to {array.max()}."
            )
        return Image(with_channels.astype(np.float32), stored=array.dtype)


def need_votes(votes: int) -> int:
    """The number itself.

    Raises:
        UserError: it is below 1.
    """
    if votes < 1:
        raise UserError(f"votes must be 1 or more; it is {votes}.")
    return votes
