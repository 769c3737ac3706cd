"""Layouts of data folders: the table of layouts, and finding the layout of a folder.

To add a layout, write a module in this package with the functions described in `Layout`, and add a
row to `LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdal.datasets.layout import CASES, Listing
from cdal.datasets.layouts import bids, dicom, flat, monailabel, nnunet, pairs, parts, table
from cdal.datasets.layouts.files import entries
from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Layout:
    """A layout of a data folder.

    Attributes:
        name: name of the layout.
        expected: the layout in words, for the error message of folders that have none.
        readings: function that returns the ways in which a folder has this layout, in words; none
            if it does not have it. No image is read.
        list_cases: function that lists the cases of a folder with exactly one reading.
    """

    name: str
    expected: str
    readings: Callable[[Path], Sequence[str]]
    list_cases: Callable[[Path], Listing]


LAYOUTS = (
    Layout("table", "a table that lists images and labels", table.readings, table.list_cases),
    Layout(
        "nnU-Net",
        "imagesTr/ and labelsTr/, with NAME_0000 for each channel",
        nnunet.nnunet_readings,
        nnunet.list_cases,
    ),
    Layout("Decathlon", "imagesTr/ and labelsTr/", nnunet.decathlon_readings, nnunet.list_cases),
    Layout("pairs", "images/ and labels/ (or masks/)", pairs.readings, pairs.list_cases),
    Layout("parts", "train/ and test/, each with one of these", parts.readings, parts.list_cases),
    Layout(
        "MONAI Label",
        "images beside labels/final/",
        monailabel.readings,
        monailabel.list_cases,
    ),
    Layout(
        "BIDS",
        "sub-*/anat/ and derivatives/*/sub-*/anat/*_dseg",
        bids.readings,
        bids.list_cases,
    ),
    Layout("flat", "NAME beside NAME_mask", flat.readings, flat.list_cases),
    Layout(
        "DICOM studies",
        "DICOM series with DICOM-SEG or RTSTRUCT files",
        dicom.readings,
        dicom.list_cases,
    ),
)
"""Every layout that is recognised."""

_MOST_READINGS = 6
"""Readings of a folder that are listed in an error message."""


def find_layout(root: Path) -> tuple[Layout, str]:
    """Return the layout of a folder or table, and how it is read, in words.

    Raises:
        UserError: the folder is missing, has no layout that is known, or can be read in several
            ways.
    """
    if not root.is_dir() and not root.is_file():
        raise UserError(
            f"{root}: no such folder. Give the data folder, which holds imagesTr and labelsTr, or "
            "images and labels; or a table (.csv) of images and labels."
        )
    if root.is_file() and root.suffix.lower() != ".csv":
        raise UserError(
            f"{root}: expected a data folder, or a table (.csv) with the columns image and label; "
            "it is another file."
        )
    if root.is_file():
        return LAYOUTS[0], table.readings(root)[0]
    *named, by_reference = LAYOUTS
    found = [(layout, words) for layout in named for words in layout.readings(root)]
    # Names of folders and files say more than references between files of any name.
    found = found or [(by_reference, words) for words in by_reference.readings(root)]
    if len(found) > 1:
        listed = "; or ".join(
            f"{layout.name} ({words})" for layout, words in found[:_MOST_READINGS]
        )
        listed += "; or ..." if len(found) > _MOST_READINGS else ""
        raise UserError(
            f"{root} can be read in several ways: {listed}. Move what is not meant out of the "
            "folder; or list images and labels in a table, and give that: --data cases.csv."
        )
    if not found:
        if _lists_paths(root / CASES):
            raise UserError(f"{root} holds a table of paths; give that instead: {root / CASES}.")
        contents = ", ".join(path.name for path in entries(root)[:8]) or "nothing"
        # The most common one first; sorting keeps the order of the others.
        others = sorted(LAYOUTS[1:], key=lambda layout: layout.name != "pairs")
        listed = "".join(f"\n  {layout.expected}" for layout in others)
        raise UserError(
            f"{root}: expected one of the layouts below; it holds {contents}.{listed}\n"
            "Or give a table (.csv) with the columns image and label in its place."
        )
    return found[0]


def _lists_paths(path: Path) -> bool:
    """Whether a table of cases has the columns image and label."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        columns = file.readline(10_000).lower()
    return all(name in columns for name in table.FILES)
