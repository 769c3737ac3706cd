"""Unpacking of archives that come from anywhere: bounded, and never outside of their folder."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from cdal.runtime.errors import UserError

MOST_FILES = 100_000
MOST_FOLDERS = 32
"""Most files of an archive, and most folders inside one another."""

_ALWAYS, _TIMES, _MOST = 2**28, 100, 2**36
"""Bytes that any archive may unpack to; how many times its own size; and never more than this."""

_LONGEST_PART, _LONGEST_NAME = 255, 1000
_BLOCK = 2**20
_MAGIC: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a `.zip`, `.tar`, `.tar.gz`, `.tar.bz2` or `.tar.xz` file into a new folder.

    Only files and folders are unpacked. Links, devices and names that lead elsewhere are refused,
    as is what unpacks to far more than it is.

    Raises:
        UserError: the archive is damaged, empty, encrypted, or holds what is refused.
        OSError: the disk is full, or the folder cannot be written.
    """
    target = _Target(archive, folder)
    try:
        with archive.open("rb") as file:
            start = file.read(8)
        if zipfile.is_zipfile(archive) and not start.startswith(tuple(_MAGIC)):
            _unzip(archive, target)
        else:
            _untar(archive, start, target)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        gzip.BadGzipFile,
        EOFError,
        ValueError,
        NotImplementedError,  # a method of compression that Python does not know
        RecursionError,
        MemoryError,
    ) as error:
        raise target.refused(str(error) or type(error).__name__) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise target.refused(f"{error.filename!r:.200} is both a file and a folder") from error
    except OSError as error:
        if error.errno is None:  # of a decompressor
            raise target.refused(str(error)) from error
        raise
    if not target.files:
        raise target.refused("it holds no files")


class _Target:
    """The folder that an archive is unpacked into, and what was unpacked so far."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive, self.folder = archive, folder
        self.files = self.bytes = 0
        self.most = min(_MOST, max(_ALWAYS, _TIMES * archive.stat().st_size))

    def refused(self, reason: str) -> UserError:
        """The error for an archive that is not unpacked."""
        return UserError(
            f"{self.archive} cannot be unpacked: {reason}. Expected a folder, or a .zip, .tar or "
            ".tar.gz archive of files and folders."
        )

    def path_of(self, name: str) -> Path:
        """The path of a member; its name must lead into the folder."""
        parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
        if name.startswith(("/", "\\")) or ".." in parts or any(":" in p for p in parts[:1]):
            raise self.refused(f"the name {name!r:.200} leads out of its folder")
        if "\0" in name or not parts:
            raise self.refused(f"{name!r:.200} is no name")
        longest = max(len(part.encode(errors="surrogateescape")) for part in parts)
        if longest > _LONGEST_PART or len(name) > _LONGEST_NAME or len(parts) > MOST_FOLDERS:
            raise self.refused(
                f"the name {name[:60]!r}... is too long, or has more than {MOST_FOLDERS} folders"
            )
        return self.folder.joinpath(*parts)

    def take(self, name: str, size: int) -> Path:
        """Count a file before it is unpacked; returns its path."""
        self.files += 1
        self.bytes += size
        if self.files > MOST_FILES:
            raise self.refused(f"it holds more than {MOST_FILES} files")
        if self.bytes > self.most:
            raise self.refused(
                f"it would unpack to more than {self.most / 2**20:.0f} MiB, far more than it is"
            )
        path = self.path_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class _Bounded:
    """A stream that gives no more than so many bytes."""

    def __init__(self, stream: IO[bytes], target: _Target) -> None:
        self.stream, self.target, self.left = stream, target, target.most + _BLOCK * 64

    def read(self, size: int = -1) -> bytes:
        """Read some bytes."""
        block = self.stream.read(size if 0 <= size <= _BLOCK else _BLOCK)
        self.left -= len(block)
        if self.left < 0:
            raise self.target.refused(
                f"it would unpack to more than {self.target.most / 2**20:.0f} MiB, far more than "
                "it is"
            )
        return block


def _unzip(archive: Path, target: _Target) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                target.path_of(member.filename).mkdir(parents=True, exist_ok=True)
                continue
            if kind not in (0, stat.S_IFREG):
                raise target.refused(f"{member.filename!r:.200} is a link or a device")
            if member.flag_bits & 1:
                raise target.refused("it is encrypted. Unpack it with its password first")
            path = target.take(member.filename, member.file_size)
            with opened.open(member) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file, _BLOCK)


def _untar(archive: Path, start: bytes, target: _Target) -> None:
    opener = next((opener for magic, opener in _MAGIC.items() if start.startswith(magic)), None)
    with (
        archive.open("rb") if opener is None else opener(archive) as stream,
        tarfile.open(fileobj=_Bounded(stream, target), mode="r|") as opened,  # type: ignore[call-overload]
    ):
        for member in opened:
            if member.isdir():
                if member.name.strip("./"):
                    target.path_of(member.name).mkdir(parents=True, exist_ok=True)
                continue
            if not member.isreg():
                raise target.refused(f"{member.name!r:.200} is a link or a device")
            path = target.take(member.name, member.size)
            source = opened.extractfile(member)
            assert source is not None  # as it is a file
            with source, path.open("wb") as file:
                shutil.copyfileobj(source, file, _BLOCK)
