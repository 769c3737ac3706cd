"""The files of a folder by their names, without those that operating systems add."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from cdal.imaging.annotations import annotation_format, label_suffix_of
from cdal.imaging.formats import SUFFIXES, holds_series, stem_of, suffix_of
from cdal.runtime.errors import first_few
from cdal.runtime.text import composed, is_plain

MASK_WORDS = frozenset(
    (
        *("mask", "masks", "label", "labels", "seg", "segmentation", "gt", "manual"),
        *("annotation", "annotations", "roi", "rois", "roiset"),  # the last as ImageJ says it
    )
)
"""Words after the name of an image by which a file says that it is a label."""

RATER = re.compile(r"^rater\d+$")
"""Words after the name of an image for the label of one of several annotators."""

_OF_SYSTEMS = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"))
"""Files and folders that Windows, macOS and network drives add."""


def is_hidden(path: Path) -> bool:
    """Whether a file belongs to the operating system, such as `._x`, `.DS_Store`, `Thumbs.db`."""
    return path.name.startswith(".") or path.name.lower() in _OF_SYSTEMS


def entries(folder: Path) -> list[Path]:
    """Return the files and folders in a folder that are not hidden, sorted."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path))


def subfolders(root: Path) -> dict[str, list[Path]]:
    """Return the subfolders by their names in small letters."""
    found: dict[str, list[Path]] = {}
    for path in entries(root):
        if path.is_dir():
            found.setdefault(path.name.lower(), []).append(path)
    return found


def image_stem(path: Path) -> str | None:
    """Return the name of an image file without its suffix; `None` for other files."""
    return stem_of(path) if suffix_of(path) else None


def label_stem(path: Path) -> str | None:
    """Return the name of a label file without its suffix; `None` for other files.

    Labels are label images and annotations.
    """
    suffix = label_suffix_of(path)
    return path.name[: -len(suffix)] if suffix else None


def annotation_stem(path: Path) -> str | None:
    """Return the name of an annotation without its suffix; `None` for images and other files."""
    is_image = image_stem(path) and not annotation_format(path)
    return None if is_image else label_stem(path)


def by_stem(
    folder: Path,
    problems: list[str],
    stem_of_file: Callable[[Path], str | None] = image_stem,
    series: bool = False,
) -> dict[str, Path]:
    """Return the files of a folder by their names without suffix, in composed characters.

    Args:
        folder: folder to list; subfolders are not searched.
        problems: list to which double and unusable names and broken links are added.
        stem_of_file: function that returns a file's name without suffix; `None` leaves it out.
        series: whether to include subfolders that contain a DICOM series, by their names.
    """
    files: dict[str, Path] = {}
    for path in entries(folder):
        if path.is_symlink() and not path.exists():
            problems.append(
                f"{path}: the link leads to {path.readlink()}, which is not there. Put the file "
                "there, or remove the link."
            )
            continue
        found = stem_of_file(path) if path.is_file() else None
        if series and path.is_dir() and holds_series(path):
            found = path.name
        if found is None:
            continue
        stem = composed(found)
        if stem in files:
            problems.append(
                f"{files[stem]} and {path} have the same name but for the suffix (or the way in "
                "which accents are stored). Remove one of them."
            )
        elif not is_plain(stem):
            problems.append(
                f"{str(path)!r}: expected a name of letters and digits; it is empty, is not UTF-8 "
                "or holds control characters. Rename the file."
            )
        else:
            files[stem] = path
    return files


def readable_files(folder: Path) -> Iterator[Path]:
    """Return the files of a folder that may be images, by their suffixes."""
    return (path for path in entries(folder) if path.is_file() and suffix_of(path))


def owner(stem: str, names: Collection[str]) -> tuple[str | None, str]:
    """Split the name of a label into the name of its image and the rest.

    The longest matching image name is used. The rest is the text after the underscore or hyphen;
    or a word of `MASK_WORDS` after a dot.

    Returns:
        The name of the image (`None` if there is none) and the rest.
    """
    if stem in names:
        return stem, ""
    cuts = [i for i, character in enumerate(stem) if character in "_-"]
    if "." in stem and stem.rpartition(".")[2].lower() in MASK_WORDS:
        cuts.append(stem.rindex("."))
    name = next((stem[:cut] for cut in reversed(cuts) if stem[:cut] in names), None)
    return name, stem[len(name) + 1 :] if name else ""


def note_partners(problems: list[str], names: list[str], what: str, folder: Path) -> None:
    """Add a problem for files without partner.

    Args:
        problems: list to which the problem is added.
        names: names of the files.
        what: what is wrong with them.
        folder: where the missing files should be.
    """
    if names:
        problems.append(
            f"{what}: {first_few(names)}. Put the missing files of the same name into {folder}, or "
            "remove these."
        )


def no_image(folder: Path) -> str:
    """Return the problem of a folder without an image."""
    return f"{folder} holds no image. Expected files ending in {', '.join(SUFFIXES)}."
