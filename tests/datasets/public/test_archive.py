"""Archives that come from anywhere."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.datasets.public import archive
from cdal.datasets.public.archive import MOST_FOLDERS, unpack
from cdal.runtime.errors import UserError

FILES = {"images/a.txt": b"a" * 100, "images/deep/b c.txt": b"b", "empty": b""}


def tar_of(path: Path, mode: str, files: dict[str, bytes]) -> None:
    with tarfile.open(path, mode) as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))


def zip_of(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)


def tar_with(kind: bytes, target: str = "", name: str = "x") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with tarfile.open(path, "w") as opened:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            opened.addfile(member)

    return make


def zip_with_a_link(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        member = zipfile.ZipInfo("x")
        member.external_attr = 0o120777 << 16
        opened.writestr(member, "/etc/passwd")


def changed_zip(places: tuple[int, ...], value: bytes) -> Callable[[Path], None]:
    """A zip whose headers, found by their signature, hold another value."""

    def make(path: Path) -> None:
        zip_of(path, {"x": b"text" * 100})
        content = bytearray(path.read_bytes())
        for signature, place in zip((b"PK\x03\x04", b"PK\x01\x02"), places, strict=True):
            at = content.index(signature) + place
            content[at : at + len(value)] = value
        path.write_bytes(bytes(content))

    return make


def bomb(path: Path) -> None:
    zip_of(path, {f"{number}": b"\0" * 2**20 for number in range(4)})


def tar_bomb(path: Path) -> None:
    tar_of(path, "w:gz", {f"{number}": b"\0" * 2**20 for number in range(4)})


def header_bomb(path: Path) -> None:
    """The name of a file alone is what unpacks to far too much."""
    with tarfile.open(path, "w:xz", format=tarfile.PAX_FORMAT) as opened:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"comment": "c" * 2**22}
        opened.addfile(member)


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_ALWAYS", 2**20)
    monkeypatch.setattr(archive, "_BLOCK", 2**14)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_files_are_unpacked_as_they_were_packed(mode: str, tmp_path: Path):
    """Whatever the archive is called."""
    packed = tmp_path / "archive"
    zip_of(packed, FILES) if mode == "zip" else tar_of(packed, mode, FILES)
    unpack(packed, tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == FILES


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "symbolic link": (tar_with(tarfile.SYMTYPE, "y"), "link"),
    "hard link to itself": (tar_with(tarfile.LNKTYPE, "x"), "link"),
    "device": (tar_with(tarfile.CHRTYPE), "device"),
    "pipe": (tar_with(tarfile.FIFOTYPE), "device"),
    "link in a zip": (zip_with_a_link, "link"),
    "absolute name": (lambda path: tar_of(path, "w", {"/tmp/x": b""}), "leads out"),
    "name with ..": (lambda path: tar_of(path, "w", {"a/../../x": b""}), "leads out"),
    "name with .. in a zip": (lambda path: zip_of(path, {"../x": b""}), "leads out"),
    "name of Windows": (lambda path: zip_of(path, {"C:\\x": b""}), "leads out"),
    "folder that leads out": (tar_with(tarfile.DIRTYPE, name="../x"), "leads out"),
    "long name": (lambda path: tar_of(path, "w", {"n" * 300: b""}), "too long"),
    "2,000 folders": (lambda path: tar_of(path, "w", {"d/" * 2000 + "x": b""}), "folders"),
    "33 folders in a zip": (
        lambda path: zip_of(path, {"d/" * MOST_FOLDERS + "x": b""}),
        "folders",
    ),
    "file that is a folder": (lambda path: tar_of(path, "w", {"a": b"", "a/b": b""}), "both"),
    "encrypted": (changed_zip((6, 8), b"\x01\x00"), "encrypted"),
    "unknown method": (changed_zip((8, 10), b"\x63\x00"), "compression"),
    "damaged": (changed_zip((14, 16), b"\x00" * 4), "CRC"),
    "empty tar": (lambda path: tar_of(path, "w", {}), "no files"),
    "empty zip": (lambda path: zip_of(path, {}), "no files"),
    "empty file": (lambda path: path.write_bytes(b""), "unpacked"),
    "text": (lambda path: path.write_text("an archive"), "unpacked"),
    "cut short": (
        lambda path: (tar_of(path, "w:gz", FILES), path.write_bytes(path.read_bytes()[:60])),
        "unpacked",
    ),
    "zip bomb": (bomb, "far more than it is"),
    "tar bomb": (tar_bomb, "far more than it is"),
    "bomb in a header": (header_bomb, "far more than it is"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_public_set_holds_is_refused(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """By the command that users call; nothing is left, nor written elsewhere."""
    make, message = REFUSED[kind]
    (tmp_path / "inner").mkdir()
    make(tmp_path / "inner/a.zip")
    words = ["data", "prepare", "hippocampus", str(tmp_path / "inner/a.zip")]
    assert main([*words, str(tmp_path / "inner/out")]) == 2
    error = capsys.readouterr().err
    assert "cannot be unpacked" in error
    assert message in error
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "a.zip"]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "MOST_FILES", 2)
    zip_of(tmp_path / "a.zip", FILES)
    with pytest.raises(UserError, match="more than 2 files"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
