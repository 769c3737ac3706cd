"""The image of a case, opened: its kind and grid, and its numbers while they are needed."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cdal.evaluation.review.opening import Files, channels_of, open_files
from cdal.imaging.channels import read_channels
from cdal.imaging.formats.dicom_series import dicom_files
from cdal.imaging.image import Image
from cdal.imaging.rows import LARGE, Rows
from cdal.serve.cases import Entry

_KEPT, _KEPT_BYTES = 2, 2**28
"""Images that are kept in memory, and the most bytes of one of them."""

_AT_ONCE = 2
"""Images that are decoded at the same time."""


@dataclass(frozen=True)
class About:
    """Kind and grid of an image.

    Attributes:
        kind: a volume; a picture that is shown whole; or a slide, which is shown by tiles.
        shape: shape without channels, `*S`.
        spacing: millimetres per voxel; `None` if the image has no place in space.
    """

    kind: Literal["volume", "picture", "slide"]
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None


def about(rows: Rows) -> About:
    """Kind and grid of an image."""
    shape = tuple(int(n) for n in rows.shape)
    spacing = None if rows.like.affine is None else rows.like.spacing
    if len(shape) == 3:
        return About("volume", shape, spacing)
    large = not isinstance(rows, Image) or math.prod(shape) > LARGE
    return About("slide" if large else "picture", shape, spacing)


def files_of_entry(entry: Entry, channels: int) -> Files:
    """The files of a case.

    Args:
        entry: the case.
        channels: number of channels to expect where no model has segmented it yet.
    """
    found = entry.found
    names = () if found is None else tuple(of_class.name for of_class in found.classes)
    known = channels if found is None else channels_of(found.model) or channels
    series = "" if found is None else found.series
    mask, uncertainty = entry.file("mask"), entry.file("uncertainty")
    return Files(entry.inputs[0], mask, uncertainty, names, known, series)


def stamp_of(*paths: Path | None) -> tuple[tuple[str, int, int, int], ...]:
    """Names, times and sizes of files, which change if their content does.

    A file that was moved to its place has its old time of writing, and a new one of its entry.
    """
    files = [
        file
        for path in paths
        if path is not None and path.exists()
        for file in (dicom_files(path) if path.is_dir() else [path])
    ]
    known = [(str(file), file.stat()) for file in files]
    return tuple((name, one.st_mtime_ns, one.st_ctime_ns, one.st_size) for name, one in known)


class Opener:
    """Opens the images of cases, few at a time, and keeps those that were opened last.

    Args:
        channels: number of channels to expect where no model has segmented an image yet.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._images: OrderedDict[object, Image] = OrderedDict()
        self._about: OrderedDict[object, About] = OrderedDict()
        self._lock = threading.Lock()
        self._room = threading.Semaphore(_AT_ONCE)

    @contextmanager
    def open(self, entry: Entry) -> Iterator[Rows]:
        """Open the image of a case.

        Raises:
            UserError: it is missing or damaged.
        """
        key = stamp_of(*entry.inputs)
        with self._lock:
            kept = self._images.get(key)
        if kept is not None and key:
            yield kept
            return
        files = files_of_entry(entry, self.channels)
        with self._room:
            if len(entry.inputs) > 1:
                self._keep(key, image := read_channels(entry.inputs))
                yield image
                return
            with open_files(files) as rows:
                self._keep(key, rows)
                yield rows

    def known(self, entry: Entry) -> About | None:
        """Kind and grid of an image, if it was opened before."""
        return self._about.get(stamp_of(*entry.inputs))

    def about(self, entry: Entry) -> About:
        """Kind and grid of the image of a case; errors as `open`."""
        known = self.known(entry)
        if known is None:
            with self.open(entry) as rows:
                known = about(rows)
        return known

    def _keep(self, key: object, rows: Rows) -> None:
        with self._lock:
            self._about[key] = about(rows)
            while len(self._about) > 10_000:
                self._about.popitem(last=False)
            if isinstance(rows, Image) and rows.array.nbytes <= _KEPT_BYTES:
                self._images[key] = rows
                while len(self._images) > _KEPT:
                    self._images.popitem(last=False)
