"""The cases of a server: of its folder of results, of its data, and those that clients have sent.

Ids are ours and say nothing of a path.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cdal.datasets.folder import list_folder
from cdal.evaluation.review.cases import Case, Results, read_results
from cdal.imaging.channels import CHANNEL
from cdal.imaging.formats import SUFFIXES, format_of, holds_series, stem_of, suffix_of
from cdal.imaging.image import result_suffix
from cdal.inference.inputs import channels_beside, list_inputs
from cdal.inference.record import ResultsOf
from cdal.runtime.errors import UserError
from cdal.serve.uploads import Upload, Uploads

_RECORD = "predictions.json"
_IMAGES = ("imagesTr", "imagesTs", "imagesVal", "images")
"""Subfolders of a data folder that hold its images."""


@dataclass(frozen=True)
class Entry:
    """A case that can be asked for.

    Attributes:
        id: its id.
        name: file name of its image, or name of its series.
        origin: where it comes from.
        inputs: files or folder of its image, as `cdal predict` takes them.
        folder: folder of its results; `None` if the server has none.
        found: what was found in it; `None` if it has no results.
        failed: why it could not be segmented; empty if it could, or was not tried.
    """

    id: str
    name: str
    origin: Literal["results", "data", "upload"]
    inputs: tuple[Path, ...]
    folder: Path | None
    found: Case | None = None
    failed: str = ""

    @property
    def stem(self) -> str:
        """Name of its results, without what `cdal predict` adds to it."""
        path = self.inputs[0]
        stem = path.resolve().name if path.is_dir() else stem_of(path)
        match = CHANNEL.match(stem)
        return match["name"] if match and len(self.inputs) > 1 else stem

    @property
    def result_name(self) -> str:
        """Name of a mask that belongs to it: its own name, with the suffix of its results."""
        path = self.inputs[0]
        known = format_of(path) if path.exists() else None
        if path.is_dir() or (known is not None and known.name == "DICOM"):
            return f"{self.stem}.dcm"
        if known is not None and not known.written:
            return f"{self.stem}.tif"
        return self.stem + result_suffix(suffix_of(path) or path.suffix)

    def file(self, kind: str) -> Path | None:
        """Path of a result; `None` if it was not saved, or is not there any more."""
        if self.found is None or self.folder is None or kind not in self.found.files:
            return None
        path = self.folder / self.found.files[kind]
        return path if path.is_file() else None


class Cases:
    """The cases.

    Args:
        results: folder of results; it may not be there yet. `None` if the server has none.
        data: folder of images; `None` if the server has none.
        uploads: what clients have sent.
        channels: number of channels of the server's first model.
        channel_files: whether that was trained on channels in files of their own.

    Raises:
        UserError: a folder cannot be used.
    """

    def __init__(
        self,
        results: Path | None,
        data: Path | None,
        uploads: Uploads,
        channels: int = 1,
        channel_files: bool | None = None,
    ) -> None:
        self.results, self.data, self._uploads = results, data, uploads
        self._channels, self._channel_files = channels, channel_files
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int], Results | str]] = {}
        self._data_fault = ""
        self._images: tuple[tuple[tuple[str, int], ...], list[Entry]] | None = None
        if data is not None and not data.exists():
            raise UserError(f"{data}: expected a folder with images; there is no such folder.")
        if data is not None:
            self._look(data)

    def listed(self) -> list[Entry]:
        """All cases: those with results in the order of the review, then those without."""
        segmented = self._of_results()
        known = {entry.id for entry in segmented}
        images = [entry for entry in self._of_data() if entry.id not in known]
        uploads = [self.of_upload(upload) for upload in self._uploads.listed()]
        found = sorted(
            [*segmented, *(entry for entry in uploads if entry.found)],
            key=lambda entry: _order(entry),
        )
        return [*found, *(entry for entry in uploads if not entry.found), *images]

    def named(self, name: str) -> Entry:
        """The case with this id.

        Raises:
            HTTPException: 404, there is none.
        """
        for entry in (*self._of_results(), *self._of_data()):
            if entry.id == name:
                return entry
        return self.of_upload(self._uploads.named(name))

    def of_upload(self, upload: Upload) -> Entry:
        """The case of an upload."""
        found = self._read(upload.results)
        if found is None:
            fault = self._fault(upload.results)
            return Entry(
                upload.id, upload.name, "upload", upload.inputs, upload.results, None, fault
            )
        case = found.cases[0] if found.cases else None
        failed = next(iter(found.failed.values()), "") if case is None else ""
        return Entry(upload.id, upload.name, "upload", upload.inputs, upload.results, case, failed)

    def _of_results(self) -> list[Entry]:
        found = self._read(self.results)
        if found is None:
            return []
        entries = [
            Entry(_id(case.source), case.name, "results", _inputs(case), self.results, case)
            for case in found.cases
            if case.source
        ]
        failed = [
            Entry(
                _id(source), Path(source).name, "results", (Path(source),), self.results, None, why
            )
            for source, why in found.failed.items()
        ]
        return list({entry.id: entry for entry in (*failed, *reversed(entries))}.values())

    @property
    def faults(self) -> list[str]:
        """What of the server's folders cannot be read."""
        found = ["" if self.results is None else self._fault(self.results), self._data_fault]
        return [fault for fault in found if fault]

    def _fault(self, folder: Path) -> str:
        """Why the results in a folder could not be read, the last time."""
        with self._lock:
            known = self._known.get(folder)
        return known[1] if known is not None and isinstance(known[1], str) else ""

    def _read(self, folder: Path | None) -> Results | None:
        """The results in a folder; `None` if there are none, or they cannot be read.

        They are read again if they change.
        """
        if folder is None:
            return None
        try:
            about = (folder / _RECORD).stat()
        except OSError:
            self.forget(folder)
            return None
        stamp = about.st_mtime_ns, about.st_size
        with self._lock:
            known = self._known.get(folder)
            if known is None or known[0] != stamp:
                known = stamp, _results(folder)
                self._known[folder] = known
        return known[1] if isinstance(known[1], Results) else None

    def forget(self, folder: Path) -> None:
        """Forget what was read of a folder that is deleted."""
        with self._lock:
            self._known.pop(folder, None)

    def _of_data(self) -> list[Entry]:
        """The images of the data; none if they cannot be read any more."""
        if self.data is None:
            return []
        try:
            found, self._data_fault = self._look(self.data), ""
        except (UserError, OSError) as error:
            found, self._data_fault = [], str(error)
        return found

    def _look(self, data: Path) -> list[Entry]:
        """The images of the data; the folders are looked through again when they change."""
        folders = image_folders(data)
        stamp = tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders)
        with self._lock:
            if self._images is None or self._images[0] != stamp:
                self._images = stamp, self._list(folders) or self._by_layout(data)
            return self._images[1]

    def _by_layout(self, data: Path) -> list[Entry]:
        """The images of a data folder whose images lie elsewhere, and of a table."""
        try:
            cases = list_folder(data).cases
        except UserError as error:
            if not data.is_dir() or any(suffix_of(path) for path in data.rglob("*")):
                raise
            raise UserError(
                f"{data}: expected a folder of images ({', '.join(SUFFIXES)}), a DICOM series or a "
                "data folder; no image is in it. Put some there, or give another --data."
            ) from error
        return [
            Entry(_id(str(case.image)), case.image.name, "data", case.images, self.results)
            for case in cases
        ]

    def _list(self, folders: Sequence[Path]) -> list[Entry]:
        passed = ResultsOf([] if self.results is None else [self.results])
        found, _ = list_inputs(folders, passed, None, self._channels, self._channel_files)
        return [
            Entry(
                _id(str(entry.path)),
                entry.path.name,
                "data",
                (entry.path,) if entry.path.is_dir() or not entry.files else entry.files,
                self.results,
            )
            for entry in found
        ]


def _results(folder: Path) -> Results | str:
    """The results in a folder, or why they cannot be read."""
    try:
        return read_results(folder)
    except UserError as error:
        return str(error)


def image_folders(data: Path) -> list[Path]:
    """The folders that hold the images of a data folder, in any layout with folders of images.

    These are `imagesTr`, `imagesTs` and `images`, also in `train/` and `test/`; otherwise the
    folder itself, and its subfolders that hold a DICOM series. A table has none.
    """
    if not data.is_dir():
        return []
    parts = (data, *(data / part for part in ("train", "validation", "val", "test")))
    named = [part / name for part in parts for name in _IMAGES if (part / name).is_dir()]
    if named:
        return named
    series = sorted(
        path
        for path in data.iterdir()
        if path.is_dir() and not path.name.startswith(".") and holds_series(path)
    )
    images = any(path.is_file() and not path.name.startswith(".") for path in data.iterdir())
    return [data, *series] if images or not series else series


def _id(source: str) -> str:
    """Id of the case of an image: the same whether it has results yet or not."""
    whole = os.path.abspath(source)  # noqa: PTH100 (links stay links)
    return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _inputs(case: Case) -> tuple[Path, ...]:
    """The files of the image of a case; those of its channels, if each is a file of its own."""
    path = Path(case.source)
    mask = next(iter(case.files.values()), "")
    return (path,) if mask.startswith(f"{stem_of(path)}_") else channels_beside(path)


def _order(entry: Entry) -> tuple[int, float, str]:
    """The order of the review, see `cdal.evaluation.review.cases.read_results`."""
    case = entry.found
    if case is None:
        return 3, 0.0, entry.name
    if case.dice is not None:
        return 0, case.dice, case.source
    if case.uncertainty is not None:
        return 1, -case.uncertainty, case.source
    return 2, 0.0, case.source
