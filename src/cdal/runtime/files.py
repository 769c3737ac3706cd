"""Atomic writes: a file appears complete or not at all.

What is being written has a temporary name, `.cdal-*`, and is locked by its process. The first write
into a folder deletes what killed processes have left there.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cdal.runtime.errors import UserError
from cdal.runtime.os_errors import cannot_write, is_no_file, told_as

try:
    import fcntl
except ImportError:  # Windows, which deletes no open file
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_LOCK = ".lock"
_PREFIX = ".cdal-"
_OLD = 24 * 60 * 60
"""Age in seconds from which a temporary file is a leftover where locks do not tell."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")

_WAIT = 120.0
"""Seconds to wait for another process that writes into the same folder."""

_MACHINE = re.compile(rf"{re.escape(_PREFIX)}[0-9a-f]{{8}}-")

_swept: set[Path] = set()
"""Folders from which this process has deleted leftovers."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `path` when the block ends.

    The temporary file is in the same folder. It is deleted if the block fails, as are folders that
    were made for it.

    Raises:
        UserError: the folder cannot be created or written, or the disk is full.
    """
    temporary, handle, new = None, -1, []
    try:
        new = _missing(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary, handle = _own_file(path)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)
        _delete_empty(new)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder inside `parent` that is deleted when the block ends.

    If the block fails, parents that were made for it are deleted too, unless they hold something.

    Raises:
        UserError: the folder cannot be created.
    """
    new: list[Path] = []
    try:
        new = _missing(parent)
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        while True:
            folder = Path(tempfile.mkdtemp(dir=parent, prefix=_prefix()))
            handle = _locked(folder)
            if handle is None or folder.is_dir():  # else a sweep was quicker
                break
            os.close(handle)
    except OSError as error:
        _delete_empty(new)
        raise cannot_write(parent, error) from error
    whole = False
    try:
        yield folder
        whole = True
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)
        if not whole:
            _delete_empty(new)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes `target` when the block ends: completely or not at all.

    It lies in a scratch folder beside `target`, whose other content is deleted.

    Raises:
        UserError: `target` exists and is not empty, or cannot be written.
    """
    sweep(target.parent)  # a call that was killed when all was done is refused now
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(
            f"{target} exists and is not empty; nothing was changed. Give another target, or "
            "remove it."
        )
    try:
        with scratch_folder(target.parent) as scratch:
            made = scratch / "data"
            made.mkdir()
            with told_as(made, target):
                yield made
            if target.is_dir():
                target.rmdir()
            made.chmod(0o777 & ~_umask())
            made.rename(target)
    except OSError as error:
        raise cannot_write(target, error) from error


def _missing(folder: Path) -> list[Path]:
    """A folder and its parents as far as they are not there, the innermost first."""
    return list(itertools.takewhile(lambda path: not path.exists(), (folder, *folder.parents)))


def _delete_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it holds something, or was not made
            folder.rmdir()


def sweep(folder: Path) -> None:
    """Delete what killed processes have left in a folder; once for each folder and process."""
    folder = folder.absolute()
    if folder in _swept:
        return
    _swept.add(folder)
    for leftover in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another process sweeps too, or it may not be deleted
            _delete_unused(leftover)


@cache
def _prefix() -> str:
    """Beginning of this machine's temporary names: some file systems lock for one machine only."""
    try:
        machine = _BOOT.read_text()
    except OSError:
        machine = platform.node()
    return f"{_PREFIX}{zlib.crc32(machine.encode()):08x}-"


def _delete_unused(leftover: Path) -> None:
    """Delete a temporary file or folder unless a process has locked it."""
    is_folder = leftover.is_dir() and not leftover.is_symlink()
    elsewhere = _MACHINE.match(leftover.name) and not leftover.name.startswith(_prefix())
    handle = None if elsewhere or leftover.is_symlink() else _locked(leftover, wait=False)
    if handle is None and time.time() - leftover.lstat().st_mtime < _OLD:
        return
    try:
        shutil.rmtree(leftover, ignore_errors=True) if is_folder else leftover.unlink()
    finally:
        if handle is not None:
            os.close(handle)


def _own_file(path: Path) -> tuple[Path, int]:
    """A new temporary file beside `path`, and the handle that locks it."""
    while True:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=_prefix(), suffix="".join(path.suffixes[-2:])
        )
        if fcntl is None:
            os.close(handle)
            return Path(name), -1
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if Path(name).exists():  # else a sweep was quicker
            return Path(name), handle
        os.close(handle)


def _locked(path: Path, wait: bool = True) -> int | None:
    """Lock a file or folder; returns the handle, or `None` if that is not possible now."""
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes. This and the functions below raise UserError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def encoded(path: Path) -> Iterator[io.BytesIO]:
    """Yield a buffer that a library encodes into; it is written to `path` when the block ends.

    Libraries are not given the file itself: Pillow takes a file for whole of which the disk took a
    part, NumPy writes by means that miss a full disk, and PyTorch ends the process if it is full.
    """
    buffer = io.BytesIO()
    yield buffer
    write_bytes(path, buffer.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON value, indented."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if the file is missing or holds something else.

    Raises:
        OSError: it is there and cannot be read now, such as when too many files are open.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    except OSError as error:
        if not is_no_file(error):
            raise
        return {}
    return content if isinstance(content, dict) else {}


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on `folder` and delete what a killed process has left there.

    Raises:
        UserError: another process holds the lock, or the folder cannot be created.
    """
    taken = f"another process is training into {folder}. Wait for it, or give another --out."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with holding(folder / _LOCK, taken):
        sweep(folder)
        yield


def wait_for_writer(folder: Path) -> None:
    """Wait until nobody is the sole writer of a folder.

    A training whose caller was killed takes its last step and a checkpoint before it ends.

    Raises:
        BusyError: it takes minutes.
        UserError: the folder cannot be created or written.
    """
    with taking_turns(folder / _LOCK):
        pass


class BusyError(UserError):
    """Another process holds a lock."""


@contextmanager
def holding(lock: Path, taken: str) -> Iterator[None]:
    """Hold a lock file while the block runs. A process that is killed holds none.

    Args:
        lock: the file, in a folder that is there.
        taken: message if another process holds it.

    Raises:
        UserError: another process holds it.
        OSError: it cannot be written.
    """
    holder = FileLock(lock, timeout=0)
    try:
        holder.acquire()
    except Timeout as error:
        raise UserError(taken) from error
    try:
        yield
    finally:
        holder.release()


@contextmanager
def taking_turns(lock: Path, wait: float | None = None) -> Iterator[None]:
    """Hold a lock file for a moment, after the other processes that hold it.

    Args:
        lock: the file.
        wait: seconds to wait for the others; some minutes if `None`.

    Raises:
        BusyError: others hold it for so long.
        UserError: the folder of the lock cannot be created or written.
    """
    wait = _WAIT if wait is None else wait
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder = FileLock(lock, timeout=wait)
        holder.acquire()
    except Timeout as error:
        raise BusyError(
            f"another process has held {lock} for {wait:.0f} s. Is it stopped? End it, or give "
            "another --out."
        ) from error
    except OSError as error:
        raise cannot_write(lock.parent, error) from error
    try:
        yield
    finally:
        holder.release()


def digest_of(path: Path, *more: Path) -> str:
    """SHA-256 of the bytes of files, in this order, as hexadecimal digits."""
    digest = hashlib.sha256()
    for file in (path, *more):
        digest.update(b"%d " % file.stat().st_size)
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
