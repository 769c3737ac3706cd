"""Atomic writes: a file appears complete or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cdal.runtime.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_PREFIX = ".cdal-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block ends.

    The temporary file is in the same folder. It is deleted if the block fails.

    Raises:
        UserError: the folder cannot be created or written, or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=_PREFIX, suffix="".join(path.suffixes[-2:])
        )
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
        raise UserError(
            f"{path} cannot be written: {reason}. Free some space, or choose another folder."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8. This and the two functions below raise UserError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON value, indented."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder` and delete temporary files left by a killed process.

    Raises:
        UserError: another process holds the lock, or the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            for leftover in folder.glob(f"{_PREFIX}*"):
                leftover.unlink(missing_ok=True)
            yield
    except Timeout as error:
        raise UserError(
            f"another process is training into {folder}. Wait for it, or give another --out."
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(
            f"{folder} cannot be written: it is a file or inside a file. Give a folder for --out."
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
