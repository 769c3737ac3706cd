"""Files that cannot be used are named, with the remedy."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cdal.imaging.formats import read_image
from cdal.runtime.errors import UserError
from helpers.files import numbers, save_nifti


@pytest.mark.parametrize("suffix", [".png", ".nii.gz", ".tif", ".nrrd", ".npy"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whoever runs the tests may be root, who may read all."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"may not be read\. Change its permissions") as error:
        read_image(path)
    assert "complete" not in str(error.value)


def text(path: Path) -> Path:
    path.write_text("this is no image\n")
    return path


def half(path: Path, content: bytes) -> Path:
    path.write_bytes(content[: len(content) // 2])
    return path


def png(width: int = 64, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(
        np.random.default_rng(0).integers(256, size=(height, width)).astype(np.uint8)
    ).save(buffer, "PNG")
    return buffer.getvalue()


def png_bomb(path: Path) -> Path:
    """A header of 60000 x 60000 pixels, and nothing else."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + png()[33:])
    return path


def nifti_bomb(path: Path) -> Path:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((30000, 30000, 3000))
    path.write_bytes(gzip.compress(bytes(header.binaryblock) + b"\0" * 4))
    return path


def npy_bomb(path: Path) -> Path:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (30000, 30000, 3000)}
        )
    return path


def nrrd_bomb(path: Path) -> Path:
    path.write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 30000 30000 3000\n"
        b"encoding: raw\nendian: little\n\n"
    )
    return path


def tiff_bomb(path: Path) -> Path:
    tifffile.imwrite(path, numbers((64, 64)))
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageLength", "ImageWidth", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(60000)
    return path


def flat(path: Path) -> Path:
    """A file whose sform maps every slice to one plane; nibabel would not write it by itself."""
    file = nib.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
    file.header["sform_code"] = 1
    file.header["srow_z"] = 0
    header = bytes(file.header.binaryblock)
    path.write_bytes(gzip.compress(header + b"\0" * 4 + np.ones(27, np.float32).tobytes()))
    return path


def saved(path: Path, array: np.ndarray) -> Path:
    if path.suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    else:
        tifffile.imwrite(path, array)
    return path


def nifti_bytes() -> bytes:
    return nib.Nifti1Image(
        np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32), np.eye(4)
    ).to_bytes()


def animated(path: Path) -> Path:
    frames = [Pillow.fromarray(numbers((8, 8)) + i) for i in range(3)]
    frames[0].save(path, format="PNG", save_all=True, append_images=frames[1:])
    return path


def cmyk(path: Path) -> Path:
    tifffile.imwrite(path, numbers((8, 8, 4)), photometric="separated")
    return path


BAD = {
    "truncated gzip": (lambda d: half(d / "a.nii.gz", gzip.compress(nifti_bytes())), "complete"),
    "truncated nii": (lambda d: half(d / "a.nii", nifti_bytes()), "complete"),
    "truncated png": (lambda d: half(d / "a.png", png()), "complete"),
    "empty file": (lambda d: half(d / "a.png", b""), "cannot be read as PNG"),
    "text as nii.gz": (lambda d: text(d / "a.nii.gz"), "cannot be read as NIfTI"),
    "text as png": (lambda d: text(d / "a.png"), "cannot be read as PNG"),
    "text as jpg": (lambda d: text(d / "a.jpg"), "cannot be read as JPEG"),
    "text as bmp": (lambda d: text(d / "a.bmp"), "cannot be read as BMP"),
    "text as tif": (lambda d: text(d / "a.tif"), "cannot be read as TIFF"),
    "text as nrrd": (lambda d: text(d / "a.nrrd"), "cannot be read as NRRD"),
    "text as mha": (lambda d: text(d / "a.mha"), "cannot be read as MetaImage"),
    "text as npy": (lambda d: text(d / "a.npy"), "cannot be read as NumPy"),
    "four axes": (
        lambda d: save_nifti(d / "a.nii.gz", np.ones((3, 3, 3, 2), np.float32)),
        "3 axes",
    ),
    "nan": (lambda d: save_nifti(d / "a.nii.gz", np.full((3, 3, 3), np.nan, np.float32)), "NaN"),
    "nan in npy": (lambda d: saved(d / "a.npy", np.full((3, 3), np.inf, np.float32)), "infinite"),
    "pickle": (lambda d: saved(d / "a.npy", np.array([{}, []], object)), "cannot be read as NumPy"),
    "complex": (lambda d: saved(d / "a.npy", np.zeros((3, 3), complex)), "array of numbers"),
    "five axes": (lambda d: saved(d / "a.npy", np.zeros((2, 3, 3, 3, 3))), "2 to 4 axes"),
    "several pictures": (lambda d: animated(d / "a.png"), "expected one picture"),
    "missing": (lambda d: d / "a.nii.gz", "no such file"),
    "unknown suffix": (lambda d: text(d / "a.doc"), "expected one of"),
    "flat affine": (lambda d: flat(d / "a.nii.gz"), "affine"),
    "png bomb": (lambda d: png_bomb(d / "a.png"), "CDAL_MAX_VALUES"),
    "nifti bomb": (lambda d: nifti_bomb(d / "a.nii.gz"), "CDAL_MAX_VALUES"),
    "npy bomb": (
        lambda d: npy_bomb(d / "a.npy"),
        "cannot be read as NumPy: mmap length is greater than file size",
    ),
    "nrrd bomb": (lambda d: nrrd_bomb(d / "a.nrrd"), "CDAL_MAX_VALUES"),
    "cmyk tiff": (lambda d: cmyk(d / "a.tif"), "SEPARATED. Convert it"),
    "tiff bomb": (lambda d: tiff_bomb(d / "a.tif"), "CDAL_MAX_VALUES"),
}


@pytest.mark.parametrize("fault", BAD)
def test_files_that_cannot_be_used_are_named_with_the_remedy(fault: str, tmp_path: Path):
    make, message = BAD[fault]
    path = make(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_the_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "a.npy", np.zeros((10, 10), np.uint8))
    monkeypatch.setenv("CDAL_MAX_VALUES", "99")
    with pytest.raises(UserError, match="CDAL_MAX_VALUES=100"):
        read_image(tmp_path / "a.npy")
    monkeypatch.setenv("CDAL_MAX_VALUES", "100")
    assert read_image(tmp_path / "a.npy").shape == (10, 10)
    monkeypatch.setenv("CDAL_MAX_VALUES", "many")
    with pytest.raises(UserError, match="must be a number"):
        read_image(tmp_path / "a.npy")
