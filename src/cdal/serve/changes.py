"""Whether the image of a case is still the one that was segmented."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from cdal.imaging.formats.dicom_series import find_series
from cdal.runtime.errors import UserError
from cdal.runtime.files import digest_of
from cdal.serve.cases import Entry
from cdal.serve.opened import stamp_of
from cdal.serve.refusals import outdated

_KEPT = 10_000
"""Images of which it is kept what their checksums were."""


class Changes:
    """Compares images with the checksums that a prediction recorded of them.

    An image is read only if a file of it has been written since, and once as long as it stays.
    """

    def __init__(self) -> None:
        self._digests: OrderedDict[object, frozenset[str]] = OrderedDict()
        self._lock = threading.Lock()

    def changed(self, entry: Entry) -> bool:
        """Whether the image of a case was replaced; also `False` if that is not known."""
        case = entry.found
        if case is None or not case.digest or entry.origin == "upload":
            return False
        try:
            if case.when is not None and _written(entry.inputs) < case.when:
                return False
            key = stamp_of(*entry.inputs)
            digests = self._digests.get(key)
            if digests is None:
                digests = _digests_of(entry.inputs)
                with self._lock:
                    self._digests[key] = digests
                    while len(self._digests) > _KEPT:
                        self._digests.popitem(last=False)
        except OSError:  # it is missing; opening it says so
            return False
        except UserError:  # a slice is damaged, and was not when it was segmented
            return True
        return case.digest not in digests

    def need_same(self, entry: Entry) -> None:
        """Refuse what is about the image that was segmented, if that is not there any more.

        Raises:
            HTTPException: 409, it was replaced.
        """
        if self.changed(entry):
            raise outdated(entry.name)


def _written(inputs: Sequence[Path]) -> float:
    """When a file of an image was written, moved or deleted, in seconds since 1970."""
    inside = [file for path in inputs if path.is_dir() for file in path.rglob("*")]
    times = [file.stat() for file in (*inputs, *inside)]
    return max(max(about.st_mtime, about.st_ctime) for about in times)


def _digests_of(inputs: Sequence[Path]) -> frozenset[str]:
    """Checksums that an image may have, see `cdal.inference.case.digest_of_input`.

    A folder may hold several series, of which one was segmented.
    """
    if inputs[0].is_dir():
        return frozenset(digest_of(*series.files) for series in find_series(inputs[0]))
    return frozenset([digest_of(*inputs)])
