"""From a file on disk to a mask on disk, on the file's own grid."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cdal.data.formats import Image, read_image, replacing, stem_of, suffix_of, write_label, write_values
from cdal.data.grid import from_grid, normalise, to_grid
from cdal.devices import find_device
from cdal.errors import UserError
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
        votes: `[V, K, *S]` float32 where they were asked for.
        image: what was segmented.
    """

    mask: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
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
        name = str(source) if isinstance(source, (str, Path)) else "the array"
        case = case or (stem_of(Path(source)) if isinstance(source, (str, Path)) else "array")
        votes = self.recipe.segmenter.votes if votes is None else votes
        if votes < 1:
            raise UserError(f"votes must be 1 or more; it is {votes}.")
        grid = normalise(to_grid(image, self.recipe.data.spacing), name)
        rng = generator(seed, case, device=self.segmenter.device)
        drawn = draw_votes(self.segmenter, grid.as_tensor(), self.recipe, votes, rng)
        # Resampling is linear, so the mean may be taken first; the class is decided last, on the image's own grid.
        probability = from_grid(drawn.mean(dim=0), grid, image).numpy()
        uncertainty = from_grid(torch.from_numpy(spread(drawn.numpy()))[None], grid, image)[0].numpy()
        kept = np.stack([from_grid(vote, grid, image).numpy() for vote in drawn]) if keep_votes else None
        return Prediction(probability.argmax(axis=0).astype(np.uint8), probability, uncertainty, kept, image)

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


@dataclass(frozen=True)
class Written:
    """What `predict` did: one row for each input that was segmented, one message for each that was not."""

    done: list[dict[str, Any]]
    failed: dict[str, str]


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

    An input that cannot be used is reported and the others are done.

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
        UserError: the model or the folder for results cannot be used, there is no input, or two inputs would share a result.
    """
    out = Path(out)
    unknown = [name for name in save if name not in OUTPUTS]
    if unknown or not save:
        raise UserError(f"nothing called {', '.join(unknown) or '(none)'} can be saved. Expected some of {', '.join(OUTPUTS)}.")
    files = find_inputs(inputs)
    predictor = load(model, timesteps, device)
    done: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    _write_summary(out, predictor, votes, seed, done, failed)  # an unwritable folder is found before the work, not after
    for file in files:
        try:
            done.append(_segment_file(predictor, file, out, votes, seed, save))
        except UserError as error:
            failed[str(file)] = str(error)
        on_progress(file.name, len(files))
    _write_summary(out, predictor, votes, seed, done, failed)
    return Written(done, failed)


def find_inputs(inputs: Iterable[Path | str]) -> list[Path]:
    """The files meant by files and folders; in a folder, results of earlier predictions are passed over.

    Raises:
        UserError: a folder holds no image, or two files would share a result.
    """
    files: list[Path] = []
    for path in map(Path, inputs):
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(p for p in path.iterdir() if suffix_of(p) and p.is_file() and not p.name.startswith("."))
        images = [p for p in found if not stem_of(p).endswith(tuple(f"_{name}" for name in OUTPUTS))]
        if not images:
            raise UserError(f"{path} holds no image. Expected files ending in .nii.gz, .nii or .png.")
        files += images
    by_result: dict[str, Path] = {}
    for file in files:
        key = stem_of(file) + str(suffix_of(file))
        if key in by_result:
            raise UserError(
                f"{by_result[key]} and {file} would share the result {stem_of(file)}_mask. Predict them into two folders."
            )
        by_result[key] = file
    return files


def _segment_file(
    predictor: Predictor, file: Path, out: Path, votes: int | None, seed: int, save: Collection[str]
) -> dict[str, Any]:
    began = time.perf_counter()
    prediction = predictor.predict(file, votes, seed, keep_votes="votes" in save)
    image, stem = prediction.image, out / stem_of(file)
    assert image is not None  # predict keeps what it read
    written = {}
    if "mask" in save:
        written["mask"] = write_label(stem.with_name(f"{stem.name}_mask"), prediction.mask, image)
    if "probability" in save:
        foreground = prediction.probability[1:] if len(prediction.probability) > 2 else prediction.probability[1]
        written["probability"] = write_values(stem.with_name(f"{stem.name}_probability"), foreground, image)
    if "uncertainty" in save:
        written["uncertainty"] = write_values(stem.with_name(f"{stem.name}_uncertainty"), prediction.uncertainty, image)
    if prediction.votes is not None:
        masks = prediction.votes.argmax(axis=1).astype(np.float32) / max(1, len(predictor.header.classes) - 1)
        written["votes"] = write_values(stem.with_name(f"{stem.name}_votes"), masks, image)
    voxel = float(np.prod(image.spacing))
    return {
        "input": str(file),
        **{kind: path.name for kind, path in written.items()},
        "volume": {name: voxel * int((prediction.mask == k).sum()) for k, name in enumerate(predictor.header.classes) if k},
        "unit": "pixels" if image.affine is None else "mm3",
        "mean_uncertainty": float(prediction.uncertainty[prediction.mask > 0].mean()) if prediction.mask.any() else 0.0,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _write_summary(
    out: Path,
    predictor: Predictor,
    votes: int | None,
    seed: int,
    done: Sequence[dict[str, Any]],
    failed: dict[str, str],
) -> None:
    settings = predictor.recipe.segmenter
    summary = {
        "recipe": predictor.recipe.name,
        "segmenter": settings.name,
        "classes": list(predictor.header.classes),
        "votes": settings.votes if votes is None else votes,
        "timesteps": settings.sampling_timesteps if isinstance(settings, CDALSettings) else None,
        "seed": seed,
        "version": predictor.header.version,
        "predictions": list(done),
        "failed": failed,
    }
    with replacing(out / "predictions.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
