"""A folder of DICOM studies, see `cdal.datasets.layouts.studies`.

That module is imported for folders that hold DICOM, because its library is large.
"""

from __future__ import annotations

from pathlib import Path

from cdal.datasets.layout import Listing
from cdal.imaging.formats import DICOM, is_dicom, suffix_of


def readings(root: Path) -> list[str]:
    """Return the reading as studies, in words, if the folder holds a DICOM annotation."""
    files = (path for path in root.rglob("*") if suffix_of(path) in (None, *DICOM.suffixes))
    if not any(path.is_file() and is_dicom(path) for path in files):
        return []
    from cdal.datasets.layouts import studies

    return studies.readings(root)


def list_cases(root: Path) -> Listing:
    """List the series that have annotations."""
    from cdal.datasets.layouts import studies

    return studies.list_cases(root)
