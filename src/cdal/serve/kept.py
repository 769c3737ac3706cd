"""Files that are slow to make, kept for a while: each is made once, and the oldest are deleted."""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path


class Kept:
    """A folder of things that are made when they are first asked for.

    Args:
        root: the folder.
        most: how many are kept.
    """

    def __init__(self, root: Path, most: int) -> None:
        self.root, self._most = root, most
        self._made: OrderedDict[str, threading.Lock] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tag: str, make: Callable[[Path], object]) -> Path:
        """The folder of a thing.

        Args:
            tag: what decides its content, as a checksum.
            make: writes it into a new folder; called at most once at a time for each tag.

        Raises:
            Exception: that of `make`; nothing is kept then.
        """
        with self._lock:
            own = self._made.setdefault(tag, threading.Lock())
            self._made.move_to_end(tag)
            old = [self._made.popitem(last=False)[0] for _ in range(len(self._made) - self._most)]
        for name in old:
            shutil.rmtree(self.root / name, ignore_errors=True)
        folder = self.root / tag
        with own:
            if not folder.is_dir():
                half = self.root / f"{tag}.half"
                shutil.rmtree(half, ignore_errors=True)
                half.mkdir(parents=True)
                make(half)
                half.rename(folder)
        return folder
