"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cdal.errors import UserError

_PREFIX = ".cdal-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends, and goes if the block fails.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PREFIX, suffix="".join(path.suffixes[-2:]))
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written: {reason}. Free some space, or choose another folder.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Nobody else writes into `folder` meanwhile; what a killed writer left half done is taken away.

    Raises:
        UserError: somebody does, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            for leftover in folder.glob(f"{_PREFIX}*"):
                leftover.unlink(missing_ok=True)
            yield
    except Timeout as error:
        raise UserError(f"another process is training into {folder}. Wait for it, or give another --out.") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder} cannot be written: it is, or lies in, a file. Give a folder for --out.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
