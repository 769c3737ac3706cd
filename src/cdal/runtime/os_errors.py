"""Errors of the system about files, in words for users."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdal.runtime.errors import UserError

_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)

_FULL = "Free some space, or choose another folder."
_FORBIDDEN = "May you read and write there? Change that, or choose another folder."
_IN_PLACE = "A file is in the place of a folder. Choose another folder."
_OPEN = "Raise the limit of open files (ulimit -n), or end other programs."
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "Choose a folder on another disk, or raise the limit of a file (ulimit -f).",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "Choose a folder on another disk.",
    errno.EEXIST: _IN_PLACE,
    errno.ENOTDIR: _IN_PLACE,
    errno.ENAMETOOLONG: "Give a shorter name.",
    errno.EMFILE: _OPEN,
    errno.ENFILE: _OPEN,
}


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error of a path that cannot be written, for the user."""
    todo = remedy(error, "Is the disk in order? Try again, or choose another folder.")
    return UserError(f"{path} cannot be written: {error.strerror or error}. {todo}")


def remedy(
    error: OSError, other: str = "Is the disk full, or a folder not readable or writable?"
) -> str:
    """What a user can do about an error of the system; `other` if the error does not tell."""
    return _REMEDIES.get(error.errno or 0, other)


def is_no_file(error: OSError) -> bool:
    """Whether an error says that a path leads to no file.

    Other errors may go by, such as that too many files are open, and say nothing of what is there.
    """
    return error.errno in _NO_FILE


@contextmanager
def told_as(made: Path, target: Path) -> Iterator[None]:
    """Name in errors what the user asked for, and not where it is made first.

    Args:
        made: folder whose content is made in the block.
        target: the folder that it becomes, or that its content is moved to.
    """
    try:
        yield
    except UserError as error:
        if str(made) not in str(error):
            raise
        raise type(error)(str(error).replace(str(made), str(target))) from error
    except OSError as error:
        path = Path(str(error.filename or ""))
        if not path.is_relative_to(made):
            raise
        raise cannot_write(target / path.relative_to(made), error) from error
