"""Finding the series in a folder of DICOM files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdal.imaging.formats import DICOM, is_dicom, suffix_of
from cdal.imaging.formats.dicom_files import read_file, text_of
from cdal.imaging.formats.dicom_geometry import has_place
from cdal.runtime.errors import UserError

_NOT_IMAGES = {
    *("SEG", "SR", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "PR", "KO", "REG"),
    *("FID", "M3D", "DOC", "ECG", "AU", "PLAN", "ANN", "RWV"),
}
"""Modalities of objects that are no images to segment."""

_BEGINNING = 512


@dataclass(frozen=True)
class Series:
    """The files of a DICOM series.

    Attributes:
        uid: SeriesInstanceUID.
        description: SeriesDescription.
        number: SeriesNumber, its number within the study.
        files: paths of its files, not in slice order.
        planar: whether its files are separate images without a position in space (radiographs).
        localizer: whether it only shows where other series lie.
    """

    uid: str
    description: str
    number: str
    files: tuple[Path, ...]
    planar: bool = False
    localizer: bool = False

    def is_called(self, name: str) -> bool:
        """Whether a name is the series' UID, number or description."""
        return name in (self.uid, self.number) or name.lower() == self.description.lower()


def find_series(folder: Path) -> list[Series]:
    """Find the image series in a folder and its subfolders without decoding pixels.

    Raises:
        UserError: a file that should be a slice cannot be read. It is not skipped, because the
            volume would be wrong without it.
    """
    return series_of((path, read_file(path, pixels=False)) for path in dicom_files(folder))


def dicom_files(folder: Path) -> Iterator[Path]:
    """The files in a folder and its subfolders that are DICOM, or should be.

    A file that does not begin as DICOM does counts as a damaged one where others of its name are
    DICOM, unless it is text.
    """
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and suffix_of(path) in (None, *DICOM.suffixes)
        and not path.name.startswith(".")
        and path.name.upper() != "DICOMDIR"
    ]
    known = {path for path in files if is_dicom(path)}
    kinds = {_kind(path) for path in known}
    return (
        path for path in files if path in known or (_kind(path) in kinds and not _is_text(path))
    )


def series_of(headers: Iterator[tuple[Path, Any]]) -> list[Series]:
    """Sort files by series; what is no image is left out.

    Args:
        headers: path and header of each file.

    Raises:
        UserError: an image has no series or no size.
    """
    grouped: dict[str, list[tuple[Path, Any]]] = {}
    for path, header in headers:
        if not is_image(header):
            continue
        uid = text_of(header, "SeriesInstanceUID")
        if not uid or not text_of(header, "Rows") or not text_of(header, "Columns"):
            raise UserError(
                f"{path}: expected a DICOM image; it lacks its series or its size. Is it complete? "
                "Otherwise remove it."
            )
        grouped.setdefault(uid, []).append((path, header))
    return [_series(uid, files) for uid, files in grouped.items()]


def is_image(header: Any) -> bool:
    """Whether an object is an image, judged by its modality."""
    return not set(text_of(header, "Modality").split("\\")) & _NOT_IMAGES


def choose_series(folder: Path, found: Sequence[Series], name: str | None) -> Series:
    """Return the series with the given name.

    Args:
        folder: folder that was searched, for the message.
        found: series in the folder.
        name: UID, number or description; `None` if there is only one series beside localizers.

    Raises:
        UserError: several series match, or none does; the message lists the series.
    """
    volumes = [series for series in found if not series.localizer] or found
    chosen = [
        series for series in (found if name else volumes) if name is None or series.is_called(name)
    ]
    if len(chosen) == 1:
        return chosen[0]
    listed = "".join(
        f"\n  {s.number or '-'}: {s.description or 'no description'} ({len(s.files)} files, "
        f"{s.uid}){', a localizer' if s.localizer else ''}"
        for s in sorted(found, key=_order)
    )
    localizers = len(found) - len(volumes)
    problem = f"{len(volumes)} series are there"
    if localizers:
        problem += f", and {localizers} localizer{'s' if localizers > 1 else ''}"
    if name is not None:
        problem = f"{len(chosen) or 'no'} series {'are' if chosen else 'is'} called {name!r}"
    raise UserError(
        f"{folder}: {problem}. Choose one by number, description or UID (cdal predict --series "
        f"NAME), or keep one in the folder, among:{listed}"
    )


def _order(series: Series) -> tuple[bool, int, str]:
    """The order of the numbers; series without one come last."""
    number = series.number if series.number.isdecimal() else ""
    return not number, int(number or 0), series.description


def _series(uid: str, files: Sequence[tuple[Path, Any]]) -> Series:
    """A series without the localizers that lie between its slices."""
    local = ["LOCALIZER" in text_of(header, "ImageType").upper() for _, header in files]
    slices = [file for file, is_local in zip(files, local, strict=True) if not is_local] or files
    header = slices[0][1]
    return Series(
        uid,
        text_of(header, "SeriesDescription"),
        text_of(header, "SeriesNumber"),
        tuple(path for path, _ in slices),
        not any(has_place(header) for _, header in slices),
        all(local),
    )


def _is_text(path: Path) -> bool:
    """Whether a file begins as a text does, such as a README on a disc of an archive."""
    try:
        with path.open("rb") as file:
            text = file.read(_BEGINNING).decode(errors="ignore")
    except OSError:
        return False
    return bool(text) and all(character.isprintable() or character.isspace() for character in text)


def _kind(path: Path) -> tuple[Path, str]:
    """Folder and suffix; numbers at the end of a name are no suffix."""
    suffix = path.suffix.lower()
    return path.parent, "" if suffix[1:].isdigit() else suffix
