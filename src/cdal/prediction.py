"""From files on disk to masks on disk, on the files' own grids."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cdal import __version__
from cdal.data.formats import SUFFIXES, stem_of, suffix_of, write_label, write_values
from cdal.errors import UserError
from cdal.files import replacing
from cdal.predictor import Predictor, load, need_votes
from cdal.recipe import CDALSettings

OUTPUTS = ("mask", "probability", "uncertainty", "votes")
_RECORD = "predictions.json"


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

    def free(self, stem: str, suffix: str) -> Path:
        """The path of a result, without the suffix that its writer adds.

        Raises:
            UserError: a file of that name is there that no prediction wrote.
        """
        path = self.out / f"{stem}{suffix}"
        if path.exists() and not any(path.name in _results(row) for row in self.earlier):
            raise UserError(f"{path} is there and was not made by a prediction; it is kept. Give another --out.")
        return self.out / stem

    def write(self) -> None:
        """Bring the file up to date."""
        content = {"version": __version__, "predictions": [*self.earlier, *self.done], "failed": self.failed}
        with replacing(self.out / _RECORD) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


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
    paths = {kind: record.free(f"{name}_{kind}", str(suffix_of(file))) for kind in save}
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
