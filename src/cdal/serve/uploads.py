"""Images that clients have sent: each in a folder of its own, for a while.

All lie in one folder of this process, which is deleted when it ends; what a killed server has left
is deleted by the next one. Names of folders are drawn at random, and say nothing of the image.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdal.runtime.errors import UserError
from cdal.runtime.files import scratch_folder
from cdal.serve.refusals import full, missing


@dataclass
class Upload:
    """An image that a client has sent.

    Attributes:
        id: its name, also that of its folder.
        folder: its folder, with `image/` and `results/`.
        name: file name of the image, or name of the series.
        inputs: its files or its folder, as `cdal predict` takes them.
        asked: when it was last asked for, in seconds of `time.monotonic`.
        kept: whether it is listed among the cases; those of a single request are not.
    """

    id: str
    folder: Path
    name: str = ""
    inputs: tuple[Path, ...] = ()
    asked: float = 0.0
    kept: bool = False

    @property
    def results(self) -> Path:
        """Folder of its results."""
        return self.folder / "results"


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A folder for the uploads of this process, deleted at its end with all that is in it.

    Raises:
        UserError: the temporary folder of the system cannot be used.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    parent = Path(tempfile.gettempdir()) / f"cdal-serve-{user}"
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        about = parent.lstat()
    except OSError as error:
        raise UserError(f"{parent} cannot be used: {error.strerror}. Set TMPDIR.") from error
    if not parent.is_dir() or parent.is_symlink() or about.st_uid != user:
        raise UserError(f"{parent} is not a folder of this user. Delete it, or set TMPDIR.")
    with scratch_folder(parent) as folder:
        yield folder


class Uploads:
    """The uploads.

    Args:
        root: folder for them, see `upload_folder`.
        most: most of them.
        idle: seconds after which one that nobody asks for is deleted.
    """

    def __init__(self, root: Path, most: int, idle: float) -> None:
        self.root, self._most, self._idle = root, most, idle
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._uploads)

    def new(self) -> Upload:
        """Make room for one more.

        Raises:
            HTTPException: 429, there are too many.
        """
        name = secrets.token_urlsafe(12)
        upload = Upload(name, self.root / name, asked=time.monotonic())
        with self._lock:
            if len(self._uploads) >= self._most:
                raise full(f"{self._most} uploads are kept already. Delete some, or ask later.")
            self._uploads[name] = upload
        (upload.folder / "image").mkdir(parents=True)
        return upload

    def listed(self) -> list[Upload]:
        """Those that are kept, in the order in which they came."""
        return [upload for upload in list(self._uploads.values()) if upload.kept]

    def named(self, name: str) -> Upload:
        """The upload with this id, which is then kept for longer.

        Raises:
            HTTPException: 404, there is none.
        """
        upload = self._uploads.get(name)
        if upload is None:
            raise missing("A case of this id")
        upload.asked = time.monotonic()
        return upload

    def has(self, name: str) -> bool:
        """Whether there is an upload with this id; asking does not keep it."""
        return name in self._uploads

    def remove(self, name: str) -> None:
        """Delete an upload and its results."""
        with self._lock:
            upload = self._uploads.pop(name, None)
        if upload is not None:
            shutil.rmtree(upload.folder, ignore_errors=True)

    def clear(self, name: str) -> None:
        """Delete what a computation has written for an upload that was deleted meanwhile."""
        if name not in self._uploads:
            shutil.rmtree(self.root / name, ignore_errors=True)

    def idle(self) -> list[str]:
        """Ids of those that nobody has asked for in a while."""
        before = time.monotonic() - self._idle
        return [upload.id for upload in list(self._uploads.values()) if upload.asked < before]
