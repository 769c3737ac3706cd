"""Inputs of a prediction: files, folders of files, DICOM series."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdal.imaging.channels import CHANNEL, read_channels
from cdal.imaging.formats import DICOM, SUFFIXES, format_of, stem_of, suffix_of
from cdal.imaging.image import result_suffix
from cdal.imaging.open import open_image
from cdal.imaging.rows import Rows
from cdal.runtime.errors import UserError

_DICOM = ".dcm"


@dataclass(frozen=True)
class Input:
    """One image to segment.

    Attributes:
        path: path of the file, or of the folder of a DICOM series.
        name: name of the results.
        suffix: suffix of the mask.
        files: files of an image that has several: slices of a DICOM series, or one file for each
            channel.
    """

    path: Path
    name: str
    suffix: str
    files: tuple[Path, ...] = ()

    @contextmanager
    def open(self, scratch: Path | None, channels: int = 0) -> Iterator[Rows]:
        """Open the image; arguments and errors as `open_image`, `read_channels`, `read_series`."""
        if not self.files:
            with open_image(self.path, scratch, channels) as image:
                yield image
        elif self.suffix == _DICOM:
            from cdal.imaging.formats.dicom import read_series

            yield read_series(self.files)
        else:
            yield read_channels(self.files)


def find_inputs(
    paths: Iterable[Path | str],
    passed: Collection[str] = (),
    series: str | None = None,
    channels: int = 1,
    channel_files: bool | None = None,
) -> tuple[list[Input], dict[str, str]]:
    """The images that files and folders stand for.

    A folder of DICOM slices is one image. If it holds several series, `series` chooses one. Each
    radiograph is an image.

    Args:
        paths: files and folders.
        passed: names of files in folders to leave out.
        series: number, description or UID of a DICOM series.
        channels: number of channels C of the model.
        channel_files: whether the model was trained on channels in files of their own, `None` if
            that is not known. Then `NAME_0000`, `NAME_0001`, ... are the channels of one image,
            provided that there are exactly C, and that no file by itself fits the model.

    Returns:
        The images, and a message for each path that could not be used.

    Raises:
        UserError: two images would share a result.
    """
    inputs, failed = list_inputs(paths, passed, series, channels, channel_files)
    by_result: dict[str, Path] = {}
    for entry in inputs:
        if (key := entry.name + entry.suffix) in by_result:
            raise UserError(
                f"{by_result[key]} and {entry.path} would share the result {entry.name}_mask. "
                "Predict them into two folders."
            )
        by_result[key] = entry.path
    return inputs, failed


def list_inputs(
    paths: Iterable[Path | str],
    passed: Collection[str] = (),
    series: str | None = None,
    channels: int = 1,
    channel_files: bool | None = None,
) -> tuple[list[Input], dict[str, str]]:
    """As `find_inputs`, for work that writes no results: names may occur twice."""
    inputs: list[Input] = []
    failed: dict[str, str] = {}
    for path in map(Path, paths):
        try:
            inputs += _in_folder(path, passed, series) if path.is_dir() else [_of_file(path)]
        except UserError as error:  # noqa: PERF203 (one bad input must not stop the others)
            failed[str(path)] = str(error)
    if channels > 1 and channel_files is not False:
        inputs = _with_channels(inputs, channels, channel_files is True)
    return inputs, failed


def input_of(path: Path, channels: int = 1, channel_files: bool | None = None) -> Input:
    """The image that a path in the record of a prediction stands for, as `find_inputs` found it.

    Args:
        path: file; one of a channel stands for those beside it. Or folder of a DICOM series.
        channels: number of channels C of the model.
        channel_files: see `find_inputs`.

    Raises:
        UserError: it is not there, or cannot be told from others.
    """
    if not path.exists():
        raise UserError(
            f"its image {path} is not there. Work in the folder in which cdal predict did, or put "
            "it back."
        )
    together = channels_beside(path, channels) if path.is_file() and channels > 1 else (path,)
    inputs, failed = list_inputs(together, (), None, channels, channel_files)
    if path not in (known := {entry.path: entry for entry in inputs}):
        raise UserError(failed.get(str(path), f"its image {path} cannot be told from others."))
    return known[path]


def channels_beside(path: Path, channels: int | None = None) -> tuple[Path, ...]:
    """The files of all channels of an image: `NAME_0000.ext`, `NAME_0001.ext` and so on.

    Args:
        path: the file of one channel.
        channels: number of channels; as many as have a file if `None`.

    Returns:
        The files in the order of the channels; the one alone if its name is not that of a channel,
        or not all are there.
    """
    stem = stem_of(path)
    if (match := CHANNEL.match(stem)) is None:
        return (path,)
    numbers = itertools.count() if channels is None else range(channels)
    named = (path.with_name(f"{match['name']}_{n:04d}{path.name[len(stem) :]}") for n in numbers)
    files = tuple(itertools.takewhile(Path.is_file, named))
    return files if path in files and len(files) >= (channels or 0) else (path,)


def _with_channels(inputs: list[Input], channels: int, channel_files: bool) -> list[Input]:
    """Combine files that hold one channel each.

    Args:
        inputs: one input a file.
        channels: number of channels of the model.
        channel_files: whether the model is known to be trained on such files.
    """
    grouped: dict[tuple[Path, str, str], dict[int, Input]] = {}
    for entry in inputs:
        if entry.suffix != _DICOM and (match := CHANNEL.match(entry.name)):
            grouped.setdefault((entry.path.parent, match["name"], entry.suffix), {})[
                int(match["channel"])
            ] = entry
    alone: dict[tuple[Path, str], bool] = {}  # by folder and suffix, whose files are alike
    together, used = [], set()
    for (folder, name, suffix), files in grouped.items():
        if sorted(files) != list(range(channels)):
            continue
        if (folder, suffix) not in alone:
            alone[folder, suffix] = _fits_alone(files[0].path, channels, channel_files)
        if not alone[folder, suffix]:
            paths = tuple(files[channel].path for channel in range(channels))
            together.append(Input(paths[0], name, suffix, files=paths))
            used |= set(paths)
    return [entry for entry in inputs if entry.path not in used] + together


def _fits_alone(path: Path, channels: int, channel_files: bool) -> bool:
    """Whether a model can segment a file by itself.

    A gray picture fits a model of colours, unless that is known to be trained on channels in files
    of their own.
    """
    try:
        with open_image(path, None, channels) as image:
            count = len(image.rows(0, 1))
            gray_picture = count == 1 and channels == 3 and len(image.shape) == 2
    except UserError:  # told when the image is opened to be segmented
        return False
    return count == channels or (gray_picture and not channel_files)


def _of_file(path: Path) -> Input:
    found = format_of(path) if path.is_file() else None
    suffix = suffix_of(path)
    if found is DICOM:
        return Input(path, stem_of(path), _DICOM)
    if found is not None and not found.written:
        return Input(path, stem_of(path), ".tif")
    return Input(path, stem_of(path), result_suffix(suffix or path.suffix))


def _in_folder(folder: Path, passed: Collection[str], series: str | None) -> list[Input]:
    found = sorted(
        p
        for p in folder.iterdir()
        if p.is_file() and not p.name.startswith(".") and p.name not in passed
    )
    images = [_of_file(path) for path in found if suffix_of(path) not in (None, *DICOM.suffixes)]
    from cdal.imaging.formats.dicom_series import choose_series, find_series

    listed = find_series(folder) if len(images) < len(found) or not images else []
    listed = [entry for entry in listed if not all(path.name in passed for path in entry.files)]
    if not listed and not images:
        raise UserError(
            f"{folder} holds no image. Expected files ending in {', '.join(SUFFIXES)}, or a DICOM "
            "series."
        )
    radiographs = [
        _of_file(path)
        for entry in listed
        if entry.planar and series in (None, entry.uid)
        for path in entry.files
    ]
    volumes = [entry for entry in listed if not entry.planar]
    if volumes:
        radiographs.append(
            Input(
                folder, folder.resolve().name, _DICOM, choose_series(folder, volumes, series).files
            )
        )
    return [*images, *radiographs]
