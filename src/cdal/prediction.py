"""From a file on disk to a mask on disk, on the file's own grid."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cdal import __version__
from cdal.data.formats import SUFFIXES, Image, read_image, stem_of, suffix_of, write_label, write_values
from cdal.data.grid import from_grid, normalise, to_grid
from cdal.devices import find_device
from cdal.errors import UserError
from cdal.files import replacing
from cdal.inference import draw_votes
from cdal.metrics import spread
from cdal.model_file import ModelHeader, find_model, load_model, read_header
from cdal.recipe import CDALSettings, Recipe
from cdal.seeds import generator
from cdal.segmenter import Segmenter

OUTPUTS = ("mask", "probability", "uncertainty", "votes")


@dataclass(frozen=True)
class Prediction:
    """A segmentation on the grid of its image.

    Attributes:
        mask: `[*S]` uint8, the class of each voxel.
        probability: `[K, *S]` float32, the mean over the votes.
        uncertainty: `[*S]` float32, the spread of the votes, see `cdal.metrics.spread`.
        count: V, the votes that were drawn: for a segmenter without chance no more than there are flips.
        votes: `[V, K, *S]` float32 where they were asked for.
        image: what was segmented.
    """

    mask: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
    count: int
    votes: np.ndarray | None = None
    image: Image | None = field(default=None, repr=False)


class Predictor:
    """A trained segmenter, ready for images. `cdal.load` makes one.

    Attributes:
        header: what the model file says of itself.
        recipe: the header's, with the sampling settings asked for.
    """

    def __init__(self, segmenter: Segmenter, header: ModelHeader, recipe: Recipe) -> None:
        self.segmenter, self.header, self.recipe = segmenter, header, recipe

    def predict(
        self,
        source: Path | str | np.ndarray | Image,
        votes: int | None = None,
        seed: int = 0,
        case: str | None = None,
        keep_votes: bool = False,
    ) -> Prediction:
        """Segment one image.

        Args:
            source: a file; or an array `[*S]` or `[C, *S]` of a picture or a volume, whose axes are then taken for right, anterior,
                superior with the recipe's spacing; or an `Image`.
            votes: V; the recipe's number where none is given.
            seed: with `case`, of every random draw.
            case: a name; the file's where none is given.
            keep_votes: whether to return each vote.

        Returns:
            The segmentation on the image's own grid.

        Raises:
            UserError: the image cannot be read, or is not of the kind that the model was trained on.
        """
        image = self._image(source)
        name = str(source) if isinstance(source, (str, Path)) else case or "the image"
        case = case or (stem_of(Path(source)) if isinstance(source, (str, Path)) else "array")
        votes = need_votes(self.recipe.segmenter.votes if votes is None else votes)
        grid = normalise(to_grid(image, self.recipe.data.spacing, name), name)
        rng = generator(seed, case, device=self.segmenter.device)
        drawn = draw_votes(self.segmenter, grid.as_tensor(), self.recipe, votes, rng)
        # Resampling is linear, so the mean may be taken first; the class is decided last, on the image's own grid.
        probability = from_grid(drawn.mean(dim=0), grid, image).numpy()
        uncertainty = from_grid(torch.from_numpy(spread(drawn.numpy()))[None], grid, image)[0].numpy()
        kept = np.stack([from_grid(vote, grid, image).numpy() for vote in drawn]) if keep_votes else None
        mask = probability.argmax(axis=0).astype(np.uint8)
        return Prediction(mask, probability, uncertainty, len(drawn), kept, image)

    def _image(self, source: Path | str | np.ndarray | Image) -> Image:
        if isinstance(source, np.ndarray):
            source = self._from_array(source)
        image = source if isinstance(source, Image) else read_image(Path(source))
        name = "the image" if isinstance(source, Image) else str(source)
        dims = self.recipe.data.spatial_dims
        if len(image.shape) < dims:
            raise UserError(f"{name}: expected a volume of {dims} axes; it is a picture of shape {image.shape}.")
        channels = self.header.image_channels
        if image.array.shape[0] != channels:
            raise UserError(f"{name}: expected {channels} channel(s), as in training; it has {image.array.shape[0]}.")
        return image

    def _from_array(self, array: np.ndarray) -> Image:
        if not np.isfinite(array).all():
            raise UserError("the array: expected finite intensities; some are NaN or infinite.")
        dims, channels = self.recipe.data.spatial_dims, self.header.image_channels
        with_channels = array if array.ndim > dims and array.shape[0] == channels else array[None]
        if with_channels.ndim - 1 not in (2, 3):
            raise UserError(f"the array: expected a picture or a volume, with channels first if any; its shape is {array.shape}.")
        spacing = self.recipe.data.spacing or (1.0, 1.0, 1.0)
        affine = np.diag([*spacing, 1.0]) if with_channels.ndim == 4 else None
        return Image(with_channels.astype(np.float32), affine)


def load(model: Path | str, timesteps: int | None = None, device: str = "auto") -> Predictor:
    """A model, ready to predict.

    Args:
        model: a `.safetensors` file, a run folder, or the name of a shipped model.
        timesteps: T of sampling instead of the recipe's; it must divide the T of training, 0 is the deterministic twin.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    path = find_model(model)
    recipe = read_header(path).recipe
    if timesteps is not None:
        if not isinstance(recipe.segmenter, CDALSettings):
            raise UserError(f"{path}: timesteps belong to diffusion; this model is a {recipe.segmenter.name}.")
        recipe = replace(recipe, segmenter=replace(recipe.segmenter, sampling_timesteps=timesteps))
    segmenter, header = load_model(path, recipe, str(find_device(device)))
    return Predictor(segmenter, header, recipe)


def need_votes(votes: int) -> int:
    """The number itself.

    Raises:
        UserError: it is below 1.
    """
    if votes < 1:
        raise UserError(f"votes must be 1 or more; it is {votes}.")
    return votes


@dataclass(frozen=True)
class Written:
    """What `predict` did.

    Attributes:
        done: one row for each input that was segmented, as in `predictions.json`.
        failed: a message for each that was not.
        passed_over: files in folders that are results of earlier predictions.
    """

    done: list[dict[str, Any]]
    failed: dict[str, str]
    passed_over: int = 0


def predict(
    model: Path | str,
    inputs: Iterable[Path | str],
    out: Path | str,
    votes: int | None = None,
    seed: int = 0,
    save: Collection[str] = ("mask",),
    timesteps: int | None = None,
    device: str = "auto",
    on_progress: Callable[[str, int], object] = lambda _name, _count: None,
) -> Written:
    """Segment files and write the masks, each in its input's own format and geometry, and `predictions.json`.

    An input that cannot be used is reported and the others are done. A result of an earlier prediction is replaced; any other file
    of that name is not.

    Args:
        model: see `load`.
        inputs: files, or folders of files.
        out: the folder for the results.
        votes: V; the recipe's number where none is given.
        seed: of every random draw.
        save: among mask, probability, uncertainty, votes.
        timesteps: see `load`.
        device: see `load`.
        on_progress: called after each input with its name and the number of all inputs.

    Raises:
        UserError: the model, the folder for results or a number cannot be used, or two inputs would share a result.
    """
    out = Path(out)
    unknown = [name for name in save if name not in OUTPUTS]
    if unknown or not save:
        raise UserError(f"nothing called {', '.join(unknown) or '(none)'} can be saved. Expected some of {', '.join(OUTPUTS)}.")
    if votes is not None:
        need_votes(votes)
    files, failed, passed_over = find_inputs(inputs)
    predictor = load(model, timesteps, device)
    record = _Record(out, failed)
    record.write()  # an unwritable folder is found before the work, not after
    for file in files:
        try:
            row = _segment_file(predictor, file, record, votes, seed, save)
        except (UserError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            failed[str(file)] = str(error) if isinstance(error, UserError) else f"{file}: not enough memory ({error})."
        else:
            record.add({"model": str(model), **row})
        record.write()
        on_progress(file.name, len(files))
    return Written(record.done, failed, passed_over)


def find_inputs(inputs: Iterable[Path | str]) -> tuple[list[Path], dict[str, str], int]:
    """The files meant by files and folders.

    Returns:
        The files; a message for each folder that holds none; how many files were passed over as results of earlier predictions,
        which the folder's `predictions.json` lists.

    Raises:
        UserError: two files would share a result.
    """
    files: list[Path] = []
    failed: dict[str, str] = {}
    passed_over = 0
    for path in map(Path, inputs):
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(p for p in path.iterdir() if suffix_of(p) and p.is_file() and not p.name.startswith("."))
        results = {name for row in _read_record(path) for name in _results(row)}
        images = [p for p in found if p.name not in results]
        passed_over += len(found) - len(images)
        if not images:
            failed[str(path)] = f"{path} holds no image. Expected files ending in {', '.join(SUFFIXES)}."
        files += images
    by_result: dict[str, Path] = {}
    for file in files:
        key = stem_of(file) + str(suffix_of(file))
        if key in by_result:
            raise UserError(
                f"{by_result[key]} and {file} would share the result {stem_of(file)}_mask. Predict them into two folders."
            )
        by_result[key] = file
    return files, failed, passed_over


class _Record:
    """`predictions.json`: what the folder's results were made of and with, those of earlier calls included while they are there."""

    def __init__(self, out: Path, failed: dict[str, str]) -> None:
        self.out, self.failed = out, failed
        self.done: list[dict[str, Any]] = []
        self.earlier = [row for row in _read_record(out) if all((out / name).is_file() for name in _results(row))]

    def add(self, row: dict[str, Any]) -> None:
        """One more input is done."""
        mine = set(_results(row))
        self.earlier = [earlier for earlier in self.earlier if not mine & set(_results(earlier))]
        self.done.append(row)

    def free(self, stem: str) -> Path:
        """The path of a result without its suffix.

        Raises:
            UserError: a file of that name is there that no prediction wrote.
        """
        ours = {name for row in self.earlier for name in _results(row)}
        foreign = [p for p in self.out.glob(f"{stem}.*") if stem_of(p) == stem and p.name not in ours]
        if foreign:
            raise UserError(f"{foreign[0]} is there and was not made by a prediction; it is kept. Give another --out.")
        return self.out / stem

    def write(self) -> None:
        """Bring the file up to date."""
        content = {"version": __version__, "predictions": [*self.earlier, *self.done], "failed": self.failed}
        with replacing(self.out / _RECORD) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


_RECORD = "predictions.json"


def _read_record(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder's `predictions.json`; none where there is none, or it is not ours."""
    try:
        rows = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["predictions"]
        return [row for row in rows if isinstance(row, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _results(row: Mapping[str, Any]) -> list[str]:
    """The names of the files that a row lists."""
    return [str(row[kind]) for kind in OUTPUTS if kind in row]


def _segment_file(
    predictor: Predictor, file: Path, record: _Record, votes: int | None, seed: int, save: Collection[str]
) -> dict[str, Any]:
    began = time.perf_counter()
    name = stem_of(file)
    paths = {kind: record.free(f"{name}_{kind}") for kind in save}
    prediction = predictor.predict(file, votes, seed, keep_votes="votes" in save)
    image, classes = prediction.image, predictor.header.classes
    assert image is not None  # predict keeps what it read
    written = {}
    if "mask" in save:
        written["mask"] = write_label(paths["mask"], prediction.mask, image)
    if "probability" in save:
        foreground = prediction.probability[1:] if len(classes) > 2 else prediction.probability[1]
        written["probability"] = write_values(paths["probability"], foreground, image)
    if "uncertainty" in save:
        written["uncertainty"] = write_values(paths["uncertainty"], prediction.uncertainty, image)
    if prediction.votes is not None:
        written["votes"] = write_values(paths["votes"], prediction.votes.argmax(axis=1) / (len(classes) - 1), image)
    settings = predictor.recipe.segmenter
    voxel = float(np.prod(image.spacing))
    inside = prediction.uncertainty[prediction.mask > 0]
    return {
        "input": str(file),
        **{kind: path.name for kind, path in written.items()},
        "volume": {name: voxel * int((prediction.mask == k).sum()) for k, name in enumerate(classes) if k},
        "unit": "pixels" if image.affine is None else "mm3",
        "mean_uncertainty": float(inside.mean()) if inside.size else 0.0,
        "recipe": predictor.recipe.name,
        "segmenter": settings.name,
        "vote_count": prediction.count,
        "timesteps": settings.sampling_timesteps if isinstance(settings, CDALSettings) else None,
        "seed": seed,
        "seconds": round(time.perf_counter() - began, 3),
    }
