"""What a user asks to have segmented: files, folders of files, DICOM series."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cdal.data.formats import SUFFIXES, read_image, stem_of, suffix_of
from cdal.data.image import Image
from cdal.data.regions import SLIDES
from cdal.errors import UserError

_DICOM = ".dcm"


@dataclass(frozen=True)
class Input:
    """One image to segment.

    Attributes:
        path: a file, or the folder of a DICOM series.
        name: for the results.
        suffix: of the mask.
        series: the files of a DICOM series.
    """

    path: Path
    name: str
    suffix: str
    series: tuple[Path, ...] = ()

    def read(self) -> Image:
        """The image; errors as `read_image` and `read_series`."""
        if self.series:
            from cdal.data.formats.dicom import read_series

            return read_series(self.series)
        return read_image(self.path)


def find_inputs(
    paths: Iterable[Path | str], passed: Collection[str] = (), series: str | None = None
) -> tuple[list[Input], dict[str, str]]:
    """The images meant by files and folders.

    A folder of DICOM slices is one image; where it holds several series, one has to be chosen. Radiographs are one image each.

    Args:
        paths: files and folders.
        passed: names of files in folders that are to be left out.
        series: number, description or UID of a DICOM series.

    Returns:
        The images, and a message for each path that means none.

    Raises:
        UserError: two images would share a result.
    """
    inputs: list[Input] = []
    failed: dict[str, str] = {}
    for path in map(Path, paths):
        try:
            inputs += _in_folder(path, passed, series) if path.is_dir() else [_of_file(path)]
        except UserError as error:  # noqa: PERF203 (one bad input must not stop the others)
            failed[str(path)] = str(error)
    by_result: dict[str, Path] = {}
    for one in inputs:
        if (key := one.name + one.suffix) in by_result:
            raise UserError(
                f"{by_result[key]} and {one.path} would share the result {one.name}_mask. Predict them into two folders."
            )
        by_result[key] = one.path
    return inputs, failed


def result_suffix(suffix: str) -> str:
    """The suffix of a mask for an image of this one: lossless, and one file."""
    return {".jpg": ".png", ".jpeg": ".png", ".nhdr": ".nrrd", ".mhd": ".mha"}.get(suffix, suffix)


def _of_file(path: Path) -> Input:
    suffix = suffix_of(path)
    if suffix is None and path.suffix.lower() in SLIDES:
        return Input(path, path.stem, ".tif")
    if suffix is None and path.is_file():
        from cdal.data.formats.dicom import is_dicom

        if is_dicom(path):
            return Input(path, path.stem if path.suffix else path.name, _DICOM, (path,))
    return Input(path, stem_of(path), result_suffix(suffix or path.suffix))


def _in_folder(folder: Path, passed: Collection[str], series: str | None) -> list[Input]:
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name not in passed)
    images = [_of_file(p) for p in found if suffix_of(p) or p.suffix.lower() in SLIDES]
    from cdal.data.formats.dicom import choose_series, find_series

    there = find_series(folder) if len(images) < len(found) or not images else []
    there = [one for one in there if not all(path.name in passed for path in one.files)]
    if not there and not images:
        raise UserError(f"{folder} holds no image. Expected files ending in {', '.join(SUFFIXES)}, or a DICOM series.")
    radiographs = [_of_file(path) for one in there if one.planar and series in (None, one.uid) for path in one.files]
    volumes = [one for one in there if not one.planar]
    if volumes:
        radiographs.append(Input(folder, folder.resolve().name, _DICOM, choose_series(folder, volumes, series).files))
    return [*images, *radiographs]
