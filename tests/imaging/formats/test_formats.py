"""What all formats share: masks that lie where they were drawn, labels, files that
cannot be used.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from cdal.imaging.formats import (
    SUFFIXES,
    is_dicom,
    read_image,
    read_label,
    readable,
    stem_of,
    write_label,
    write_values,
)
from cdal.imaging.grid import Frame
from cdal.imaging.image import Image
from cdal.imaging.open import open_image
from cdal.recipes.recipe import DataSettings
from cdal.runtime import memory
from cdal.runtime.errors import UserError
from helpers.files import affines, ball, full_disk, numbers, save_nifti


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (suffix, kind)
        for suffix in (".png", ".bmp", ".tif", ".tiff", ".npy", ".nrrd", ".mha", ".nii", ".nii.gz")
        for kind in (np.uint8, np.uint16)
        if (suffix, kind) != (".bmp", np.uint16)  # BMP has 8 bits
    ],
)
def test_a_picture_and_its_mask(suffix: str, kind: type, tmp_path: Path):
    array, path = numbers((6, 9), kind), tmp_path / f"a{suffix}"
    if suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array)
    elif suffix == ".npy":
        np.save(path, array)
    elif suffix in (".nrrd", ".mha", ".nii", ".nii.gz"):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    else:
        Pillow.fromarray(array).save(path)
    image = read_image(path)
    np.testing.assert_array_equal(image.array[0], array)
    assert image.stored == kind
    mask = (array > 100).astype(np.uint8)
    np.testing.assert_array_equal(
        read_label(write_label(tmp_path / "m", mask, image)).array[0], mask
    )
    if suffix != ".bmp":  # which has too few bits for values; they are written as PNG
        stored = read_image(write_values(tmp_path / "v", array / 255, image)).array[0]
        np.testing.assert_allclose(
            stored / (65535 if suffix == ".png" else 1), array / 255, atol=1e-4
        )


def test_a_mask_is_visible(tmp_path: Path):
    """What a viewer shows of class 1 is far from black, and of class 2 another colour; the numbers
    are the classes.
    """
    like = Image(np.zeros((1, 2, 3), np.float32), suffix=".png")
    label = np.array([[0, 1, 2], [2, 1, 0]])
    picture = Pillow.open(write_label(tmp_path / "m", label, like))
    colours = np.asarray(picture.convert("RGB"), int)
    assert colours[0, 0].tolist() == [0, 0, 0]
    assert colours[0, 1].max() > 150
    assert np.abs(colours[0, 1] - colours[0, 2]).max() > 60
    np.testing.assert_array_equal(np.asarray(picture), label)
    write_label(tmp_path / "t", label, Image(like.array, suffix=".tif"))
    with tifffile.TiffFile(tmp_path / "t.tif") as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.PALETTE
        np.testing.assert_array_equal(file.asarray(), label)


def test_labels_in_colours_and_in_gray_saved_as_colours(tmp_path: Path):
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[:2, :2] = (255, 0, 0)
    colours[2:, 2:] = (0, 128, 1)
    Pillow.fromarray(colours).save(tmp_path / "c.png")
    assert set(np.unique(read_label(tmp_path / "c.png").array)) == {0, 0xFF0000, 0x008001}
    Pillow.fromarray(numbers((4, 4))).convert("RGB").save(tmp_path / "g.png")
    np.testing.assert_array_equal(read_label(tmp_path / "g.png").array[0], numbers((4, 4)))


def test_an_image_is_not_a_label(tmp_path: Path):
    with pytest.raises(UserError, match="whole numbers"):
        read_label(
            save_nifti(
                tmp_path / "a.nii.gz",
                np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32),
            )
        )


def test_stems_know_double_suffixes():
    assert stem_of(Path("x/case.01.nii.gz")) == "case.01"
    assert stem_of(Path("scan.PNG")) == "scan"
    assert stem_of(Path("cells.ome.tif")) == stem_of(Path("cells.OME.TIFF")) == "cells"


def test_results_of_double_suffixes_have_one(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.ome.tif", numbers((6, 9)), ome=True)
    path = write_label(tmp_path / "m", np.eye(6, 9), read_image(tmp_path / "a.ome.tif"))
    assert path.name == "m.tif"


@pytest.mark.parametrize("suffix", [*SUFFIXES, ""])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing", "device"])
def test_what_is_no_file_is_never_opened(suffix: str, kind: str, tmp_path: Path):
    """A pipe that nobody writes into would be waited for, a device be read without end."""
    path = tmp_path / f"a{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path / "nothing")
    for read in (read_image, read_label):
        with pytest.raises(UserError, match=re.escape(str(path))):
            read(path)
    assert not is_dicom(path)
    with pytest.raises(UserError, match=re.escape(str(path))), open_image(path):
        pass


def test_too_little_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "a.npy", numbers((10, 10)))

    def load(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "load", load)
    with pytest.raises(UserError, match="more memory than there is"):
        read_image(tmp_path / "a.npy")


def test_what_does_not_fit_into_memory_is_refused_before_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(memory, "free_memory", lambda: 1024)
    for name in ("a.npy", "a.png", "a.tif", "a.nii.gz", "a.mha", "a.nrrd"):
        path, array = tmp_path / name, numbers((64, 64, 3))
        if name == "a.npy":
            np.save(path, array)
        elif name == "a.png":
            Pillow.fromarray(array).save(path)
        elif name == "a.tif":
            tifffile.imwrite(path, array, photometric="rgb")
        elif name == "a.nii.gz":
            save_nifti(path, array)
        else:
            sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
        with pytest.raises(UserError, match=r"of memory are needed; 0\.0 GiB are free"):
            read_image(path)


def test_libraries_print_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    """What a reader does not say itself, it does not let others say."""
    for name in ("tifffile", "nibabel.global"):  # the command line has its own levels
        caplog.set_level(logging.WARNING, logger=name)
    with readable(tmp_path, "X"):
        warnings.warn("careful", UserWarning, stacklevel=1)
        logging.getLogger("tifffile").warning("careful")
        logging.getLogger("nibabel.global").error("careful")
        np.array([1e300]).astype(np.float32)
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])
    logging.getLogger("tifffile").warning("loud")
    assert "loud" in caplog.text


@given(
    affine=affines(),
    shape=st.tuples(*[st.integers(14, 22)] * 3),
    spacing=st.sampled_from([None, (1.0, 1.0, 1.0), (1.3, 0.9, 1.1)]),
    kind=st.sampled_from([np.uint8, np.int16, np.float32]),
    suffix=st.sampled_from([".nii.gz", ".nii", ".nrrd", ".mha"]),
)
@settings(max_examples=40)
def test_a_mask_that_was_put_in_comes_out_where_it_was(
    affine, shape, spacing, kind, suffix, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("g")
    truth = ball(shape, affine)
    source = save_nifti(folder / "a.nii.gz", (100 * truth).astype(kind), affine)
    if suffix in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.ReadImage(str(source)), str(folder / f"a{suffix}"))
        source = folder / f"a{suffix}"
    elif suffix == ".nii":
        source = save_nifti(folder / "b.nii", (100 * truth).astype(kind), affine)
    image = read_image(source)
    frame = Frame(image, DataSettings(spacing=spacing))
    (values,) = frame.back([frame.read(0, frame.shape[0]) / 100])
    back = frame.straight(values)[0]
    again = read_label(write_label(folder / "m", back > 0.5, image))
    assert again.shape == shape
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-4)
    np.testing.assert_allclose(image.affine, affine, atol=1e-3)
    if spacing is None:
        np.testing.assert_array_equal(again.array[0] > 0, truth)
    else:
        # Sampling at another spacing rounds a small ball's border, and moves it nowhere.
        kept = again.array[0] > 0
        assert 2 * (kept & truth).sum() / (kept.sum() + truth.sum()) > 0.8
        moved = affine[:3, :3] @ (np.argwhere(kept).mean(axis=0) - np.argwhere(truth).mean(axis=0))
        assert np.linalg.norm(moved) < 0.35


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".nii.gz", ".mha", ".nrrd", ".npy"])
def test_a_full_disk_leaves_no_half_mask(suffix: str, tmp_path: Path):
    """Whichever byte of it is the first that has no place."""
    shape = (60, 70) if suffix in (".png", ".bmp", ".tif") else (20, 21, 22)
    affine = np.eye(4) if len(shape) == 3 and suffix != ".npy" else None
    like = Image(np.zeros((1, *shape), np.float32), affine, suffix)
    write_label(tmp_path / "whole", numbers(shape) % 3, like)
    (whole,) = tmp_path.iterdir()
    size = whole.stat().st_size
    for limit in (0, 1, size // 2, size - 5, size - 1):
        with full_disk(limit), pytest.raises(UserError, match="cannot be written"):
            write_label(tmp_path / "half", numbers(shape) % 3, like)
        assert list(tmp_path.iterdir()) == [whole], limit
