"""Inputs of a prediction: files, folders of files, DICOM series, tables of paths."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from cdal.imaging.channels import CHANNEL, read_channels
from cdal.imaging.formats import DICOM, SUFFIXES, format_of, stem_of, suffix_of
from cdal.imaging.image import need_regular, result_suffix
from cdal.imaging.open import open_image
from cdal.imaging.rows import Rows
from cdal.inference.input_tables import count_rows, is_name, is_table, need_name, rows_of
from cdal.runtime.errors import UserError
from cdal.runtime.text import is_plain

_DICOM = ".dcm"

APART = (
    "Predict them into two folders, or list them in a table that gives each a name of its own, in "
    "the column name."
)
"""What to do about two inputs of one name."""


@dataclass(frozen=True)
class Input:
    """One image to segment.

    Attributes:
        path: path of the file, or of the folder of a DICOM series.
        name: name of the results.
        suffix: suffix of the mask.
        files: files of an image that has several: slices of a DICOM series, or one file for each
            channel.
        series: SeriesInstanceUID of a series that is a folder, which may hold others.
    """

    path: Path
    name: str
    suffix: str
    files: tuple[Path, ...] = ()
    series: str = ""

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


@dataclass(frozen=True)
class Refused:
    """A path that stands for no image.

    Attributes:
        path: the path.
        name: name of the results it would have.
        message: why, for the user.
    """

    path: Path
    name: str
    message: str


class Lister:
    """Lists the images that files, folders and tables stand for, one by one.

    A folder of DICOM slices is one image. If it holds several series, `series` chooses one. Each
    radiograph is an image. Of a folder its names are kept, and nothing larger.

    Args:
        passed: names of files in folders to leave out.
        series: number, description or UID of a DICOM series.
        channels: number of channels C of the model.
        channel_files: whether the model was trained on channels in files of their own, `None` if
            that is not known. Then `NAME_0000`, `NAME_0001`, ... are the channels of one image,
            provided that there are exactly C, and that no file by itself fits the model.

    Attributes:
        passed_over: number of files that were left out so far.
    """

    def __init__(
        self,
        passed: Container[str] = (),
        series: str | None = None,
        channels: int = 1,
        channel_files: bool | None = None,
    ) -> None:
        self.passed_over = 0
        self._passed, self._series = passed, series
        self._channels = channels if channel_files is not False else 1
        self._channel_files = channel_files is True
        # By folder and suffix, whose files are alike.
        self._alone: dict[tuple[Path, str], bool] = {}

    def __call__(self, paths: Iterable[Path | str]) -> Iterator[Input | Refused]:
        """The images of paths, and the paths that stand for none, in this order."""
        for kind, some in groupby(map(Path, paths), key=_kind):
            if kind == "file":
                yield from self._files(some)
            else:
                for path in some:
                    yield from self._many(path, self._table if kind == "table" else self._folder)

    def _many(
        self, path: Path, images: Callable[[Path], Iterator[Input | Refused]]
    ) -> Iterator[Input | Refused]:
        try:
            yield from images(path)
        except UserError as error:  # one bad path must not stop the others
            yield Refused(path, stem_of(path), str(error))

    def _files(self, paths: Iterable[Path]) -> Iterator[Input | Refused]:
        inputs: list[Input] = []
        for path in paths:
            try:
                inputs.append(_of_file(path))
            except UserError as error:  # noqa: PERF203
                yield Refused(path, stem_of(path), str(error))
        yield from self._together(inputs)

    def _folder(self, folder: Path) -> Iterator[Input | Refused]:
        names = []
        for name in file_names(folder):
            if name in self._passed:
                self.passed_over += 1
            else:
                names.append(name)
        pictures = [n for n in names if suffix_of(Path(n)) not in (None, *DICOM.suffixes)]
        scans = self._scans(folder) if len(pictures) < len(names) or not pictures else []
        if not scans and not pictures:
            raise UserError(
                f"{folder} holds no image. Expected files ending in {', '.join(SUFFIXES)}, or a "
                "DICOM series."
            )
        # Files that may be the channels of one image come one after the other.
        for _, some in groupby(sorted(pictures, key=_image_of), key=lambda n: _image_of(n)[0]):
            yield from self._together([_of_file(folder / name) for name in some])
        yield from scans

    def _scans(self, folder: Path) -> list[Input]:
        """The radiographs and the DICOM series of a folder."""
        from cdal.imaging.formats.dicom_series import choose_series, find_series

        listed = [
            entry
            for entry in find_series(folder)
            if not all(path.name in self._passed for path in entry.files)
        ]
        radiographs = [
            _of_file(path)
            for entry in listed
            if entry.planar and self._series in (None, entry.uid)
            for path in entry.files
        ]
        if volumes := [entry for entry in listed if not entry.planar]:
            chosen = choose_series(folder, volumes, self._series)
            name = folder.resolve().name
            radiographs.append(Input(folder, name, _DICOM, chosen.files, chosen.uid))
        return radiographs

    def _table(self, table: Path) -> Iterator[Input | Refused]:
        row = None
        for row in rows_of(table):
            place = f"{row.place} of {table}"
            path = table.parent / row.path if is_plain(row.path) else table
            try:
                if path == table:
                    raise UserError(_no_path(row.path, place))
                found = list(self._folder(path)) if path.is_dir() else [_of_file(path)]
                if row.name:
                    need_name(row.name, place)
                    if len(found) > 1:
                        raise UserError(f"{place}: {path} holds {len(found)} images; one is named.")
                    found = [replace(found[0], name=row.name)]
            except UserError as error:
                name = row.name if is_name(row.name) else f"{stem_of(path)} ({row.place})"
                yield Refused(Path(place) if path == table else path, name, str(error))
            else:
                yield from found
        if row is None:
            raise UserError(f"{table} lists no image: expected a row for each; it has none.")

    def _together(self, inputs: list[Input]) -> list[Input]:
        """Combine files that hold one channel each."""
        if self._channels == 1:
            return inputs
        grouped: dict[tuple[Path, str, str], dict[int, Input]] = {}
        for entry in inputs:
            if entry.suffix != _DICOM and (match := CHANNEL.match(entry.name)):
                grouped.setdefault((entry.path.parent, match["name"], entry.suffix), {})[
                    int(match["channel"])
                ] = entry
        together, used = [], set()
        for (folder, name, suffix), files in grouped.items():
            if sorted(files) != list(range(self._channels)):
                continue
            if (folder, suffix) not in self._alone:
                self._alone[folder, suffix] = _fits_alone(
                    files[0].path, self._channels, self._channel_files
                )
            if not self._alone[folder, suffix]:
                paths = tuple(files[channel].path for channel in range(self._channels))
                together.append(Input(paths[0], name, suffix, files=paths))
                used |= set(paths)
        return [entry for entry in inputs if entry.path not in used] + together


def list_inputs(
    paths: Iterable[Path | str],
    passed: Container[str] = (),
    series: str | None = None,
    channels: int = 1,
    channel_files: bool | None = None,
) -> tuple[list[Input], dict[str, str]]:
    """All images of paths, and a message for each path that stands for none; see `Lister`.

    Names of results may occur twice.
    """
    found = list(Lister(passed, series, channels, channel_files)(paths))
    inputs = [entry for entry in found if isinstance(entry, Input)]
    return inputs, {str(entry.path): entry.message for entry in found if isinstance(entry, Refused)}


def need_distinct(inputs: Iterable[Input]) -> None:
    """Refuse inputs that would share a mask.

    Raises:
        UserError: two would.
    """
    by_result: dict[str, Path] = {}
    for entry in inputs:
        if (key := entry.name + entry.suffix) in by_result:
            raise UserError(
                f"{by_result[key]} and {entry.path} would share the name {entry.name} of their "
                f"results. {APART}"
            )
        by_result[key] = entry.path


def input_of(
    path: Path, series: str = "", channels: int = 1, channel_files: bool | None = None
) -> Input:
    """The image that a path in the record of a prediction stands for, as `Lister` found it.

    Args:
        path: file; one of a channel stands for those beside it. Or folder of a DICOM series.
        series: SeriesInstanceUID; empty if it is not known.
        channels: number of channels C of the model.
        channel_files: see `Lister`.

    Raises:
        UserError: it is not there, or cannot be told from others.
    """
    if not path.exists():
        raise UserError(
            f"its image {path} is not there. Work in the folder in which cdal predict did, or put "
            "it back."
        )
    together = channels_beside(path, channels) if path.is_file() and channels > 1 else (path,)
    inputs, failed = list_inputs(together, (), series or None, channels, channel_files)
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


def about_how_many(paths: Iterable[Path | str]) -> int | None:
    """About how many images paths stand for, at little cost; `None` if files have to be opened."""
    count = 0
    for path in map(Path, paths):
        try:
            if _kind(path) == "folder":
                names = [Path(name) for name in file_names(path)]
                if any(suffix_of(name) in (None, *DICOM.suffixes) for name in names):
                    return None
                count += len(names)
            else:
                count += count_rows(path) if _kind(path) == "table" else 1
        except UserError:  # noqa: PERF203 (told when it is its turn)
            continue
    return count


def file_names(folder: Path) -> list[str]:
    """Names of the files in a folder, in order; those that begin with a dot are left out.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(
                entry.name for entry in found if not entry.name.startswith(".") and entry.is_file()
            )
    except OSError as error:
        raise UserError(
            f"{folder} cannot be read: {error.strerror or error}. May you read it?"
        ) from error


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    return "table" if is_table(path) else "file"


def _image_of(file: str) -> tuple[str, str]:
    """Name of the image whose channel a file may be, and the name of the file."""
    match = CHANNEL.match(stem_of(Path(file)))
    return (match["name"] if match else file), file


def _no_path(text: str, place: str) -> str:
    """Message of a row of a table whose path leads to no image, or to the table."""
    if not text:
        return f"{place} has no path."
    if is_plain(text):
        return f"{place} names the table itself. Expected the path of an image."
    return (
        f"{place}: expected the path of an image, in one line; it is {text!a:.80}. Is a quotation "
        "mark missing?"
    )


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
    """The image that a file is.

    Raises:
        UserError: there is no such file.
    """
    need_regular(path)
    found = format_of(path)
    suffix = suffix_of(path)
    if found is DICOM:
        return Input(path, stem_of(path), _DICOM)
    if found is not None and not found.written:
        return Input(path, stem_of(path), ".tif")
    return Input(path, stem_of(path), result_suffix(suffix or path.suffix))
