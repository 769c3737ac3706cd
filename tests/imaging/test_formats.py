"""Every format there and back, as seen by programs that know nothing of ours."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from cdal.imaging.formats import read_image, read_label, stem_of, write_label, write_values
from cdal.imaging.grid import Frame
from cdal.imaging.image import Image
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from helpers.files import OBLIQUE, affines, ball, numbers, save_nifti

TURNED = np.array([[0, -2 * 0.96, 3 * 0.28, 5], [1.5, 0, 0, -7], [0, 2 * 0.28, 3 * 0.96, 11], [0, 0, 0, 1]])


# NIfTI


def test_nifti_keeps_its_place(tmp_path: Path):
    source = save_nifti(tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4), OBLIQUE)
    image = read_image(source)
    label = (image.array[0] > 11).astype(np.uint8)
    written = nib.load(write_label(tmp_path / "b", label, image))
    np.testing.assert_allclose(written.affine, OBLIQUE, atol=1e-6)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), label)
    assert written.header["qform_code"] == nib.load(source).header["qform_code"]
    np.testing.assert_allclose(image.spacing, np.linalg.norm(OBLIQUE[:3, :3], axis=0))


def test_scaled_nifti_is_read_in_its_own_unit_and_masks_are_not_scaled(tmp_path: Path):
    file = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    file.header.set_slope_inter(2.0, -100.0)
    nib.save(file, tmp_path / "ct.nii")
    image = read_image(tmp_path / "ct.nii")
    stored = np.asarray(nib.load(tmp_path / "ct.nii").dataobj)
    np.testing.assert_allclose(image.array[0], stored)
    mask = np.eye(2, dtype=np.uint8)[:, :, None].repeat(2, 2)
    np.testing.assert_array_equal(np.asarray(nib.load(write_label(tmp_path / "m", mask, image)).dataobj), mask)


# NRRD and MetaImage


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_itk_formats_lie_where_nifti_lies(suffix: str, tmp_path: Path):
    """SimpleITK converts a NIfTI file; both are the same image to us, and the mask lies where SimpleITK's own would."""
    source = save_nifti(tmp_path / "a.nii.gz", numbers((5, 6, 7), np.int16), TURNED)
    theirs = sitk.ReadImage(str(source))
    sitk.WriteImage(theirs, str(tmp_path / f"a{suffix}"))
    first, second = read_image(source), read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_allclose(second.affine, first.affine, atol=1e-4)
    label = (second.array[0] > 100).astype(np.uint8)
    written = sitk.ReadImage(str(write_label(tmp_path / "m", label, second)))
    assert written.GetOrigin() == pytest.approx(theirs.GetOrigin())
    assert written.GetSpacing() == pytest.approx(theirs.GetSpacing())
    assert written.GetDirection() == pytest.approx(theirs.GetDirection())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), (sitk.GetArrayFromImage(theirs) > 100).astype(np.uint8))


def test_pynrrd_sees_our_mask(tmp_path: Path):
    header = {
        "space": "left-posterior-superior",
        "space directions": [[0.5, 0.1, 0], [-0.1, 0.5, 0], [0, 0, 2.0]],
        "space origin": [1, 2, 3],
    }
    nrrd.write(str(tmp_path / "a.nrrd"), numbers((4, 5, 6)), header)
    image = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(image.array[0], numbers((4, 5, 6)))
    np.testing.assert_allclose(image.affine[:3, 3], [-1, -2, 3])  # left, posterior is minus right, anterior
    mask = (image.array[0] > 50).astype(np.uint8)
    back, theirs = nrrd.read(str(write_label(tmp_path / "m", mask, image)))
    np.testing.assert_array_equal(back, mask)
    np.testing.assert_allclose(theirs["space directions"], header["space directions"], atol=1e-6)
    np.testing.assert_allclose(theirs["space origin"], header["space origin"])


def test_vectors_are_channels(tmp_path: Path):
    sitk.WriteImage(sitk.GetImageFromArray(numbers((6, 5, 4, 3)), isVector=True), str(tmp_path / "v.nrrd"))
    image = read_image(tmp_path / "v.nrrd")
    assert image.array.shape == (3, 4, 5, 6)
    np.testing.assert_array_equal(image.array[1], numbers((6, 5, 4, 3))[..., 1].T)
    written = sitk.ReadImage(str(write_values(tmp_path / "p", np.zeros((2, 4, 5, 6)), image)))
    assert (written.GetSize(), written.GetNumberOfComponentsPerPixel()) == ((4, 5, 6), 2)


# Pictures


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (suffix, kind)
        for suffix in (".png", ".bmp", ".tif", ".tiff", ".npy", ".nrrd", ".mha")
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
    elif suffix in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    else:
        Pillow.fromarray(array).save(path)
    image = read_image(path)
    np.testing.assert_array_equal(image.array[0], array)
    assert image.stored == kind
    mask = (array > 100).astype(np.uint8)
    np.testing.assert_array_equal(read_label(write_label(tmp_path / "m", mask, image)).array[0], mask)
    if suffix != ".bmp":  # which has too few bits for values; they are written as PNG
        stored = read_image(write_values(tmp_path / "v", array / 255, image)).array[0]
        np.testing.assert_allclose(stored / (65535 if suffix == ".png" else 1), array / 255, atol=1e-4)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_pictures_of_every_mode(mode: str, tmp_path: Path):
    gray = Pillow.fromarray(numbers((8, 8)))
    if mode == "I;16":
        Pillow.fromarray(numbers((8, 8), np.uint16) * 300).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png").array[0], numbers((8, 8), np.uint16) * 300.0)
        return
    gray.convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert len(image.array) == {"RGB": 3, "RGBA": 3}.get(mode, 1)
    if mode in ("RGB", "RGBA", "LA", "P"):
        np.testing.assert_array_equal(image.array[0], numbers((8, 8)))


def test_16_bits_a_colour_are_kept(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 65535, size=(5, 6, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(colours))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.array, np.moveaxis(colours, -1, 0))
    assert image.stored == np.uint16


def test_a_photograph_is_upright(tmp_path: Path):
    """As every viewer shows it, and as a mask is drawn on it."""
    sideways = Pillow.fromarray(numbers((6, 9)))
    exif = sideways.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    sideways.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array[0], np.rot90(numbers((6, 9)), -1))


def test_a_jpeg_gets_a_mask_that_loses_nothing(tmp_path: Path):
    Pillow.fromarray(numbers((16, 16, 3))).save(tmp_path / "a.jpg")
    image = read_image(tmp_path / "a.jpg")
    assert image.array.shape == (3, 16, 16)
    path = write_label(tmp_path / "m", np.arange(256).reshape(16, 16), image)
    assert path.name == "m.png"
    np.testing.assert_array_equal(np.asarray(Pillow.open(path)), np.arange(256).reshape(16, 16))


def test_a_mask_is_visible(tmp_path: Path):
    """What a viewer shows of class 1 is far from black, and of class 2 another colour; the numbers are the classes."""
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


def test_png_values_hold_16_bits(tmp_path: Path):
    like = Image(np.zeros((1, 3, 5), np.float32), suffix=".png")
    values = np.linspace(0, 1, 15).reshape(3, 5)
    stored = np.asarray(Pillow.open(write_values(tmp_path / "v", values, like)))
    np.testing.assert_allclose(stored / 65535, values, atol=1e-5)


# TIFF


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((7, 9), {}, (1, 7, 9)),
        ((7, 9, 3), {"photometric": "rgb"}, (3, 7, 9)),
        ((7, 9, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, (3, 7, 9)),
        ((5, 7, 9), {"photometric": "minisblack"}, (1, 7, 9, 5)),
        ((5, 7, 9, 3), {"photometric": "rgb"}, (3, 7, 9, 5)),
        ((3, 7, 9), {"planarconfig": "separate", "photometric": "rgb"}, (3, 7, 9)),
        ((5, 7, 9), {"imagej": True, "metadata": {"axes": "ZYX"}}, (1, 7, 9, 5)),
        ((2, 5, 7, 9), {"metadata": {"axes": "CZYX"}, "ome": True}, (2, 7, 9, 5)),
        ((64, 64), {"tile": (16, 16), "compression": "deflate"}, (1, 64, 64)),
        ((7, 9), {"byteorder": ">"}, (1, 7, 9)),
    ],
)
def test_tiffs_of_every_layout(shape: tuple[int, ...], options: dict, expected: tuple[int, ...], tmp_path: Path):
    array = numbers(shape, np.uint16 if options.get("ome") or options.get("byteorder") else np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    image = read_image(tmp_path / "a.tif")
    assert image.array.shape == expected
    assert image.affine is None
    if len(expected) == 4:
        mask = numbers(expected[1:]) % 2
        pages = tifffile.imread(write_label(tmp_path / "m", mask, image))
        np.testing.assert_array_equal(np.moveaxis(pages, 0, -1), mask)


def test_a_mask_tells_the_size_of_its_pixels(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbers((8, 8)), resolution=(40000, 40000), resolutionunit="CENTIMETER")
    write_label(tmp_path / "m", np.eye(8), read_image(tmp_path / "a.tif"))
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.pages[0].tags["XResolution"].value == (40000, 1)


# Labels


def test_labels_in_colours_and_in_gray_saved_as_colours(tmp_path: Path):
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[:2, :2] = (255, 0, 0)
    colours[2:, 2:] = (0, 128, 1)
    Pillow.fromarray(colours).save(tmp_path / "c.png")
    assert set(np.unique(read_label(tmp_path / "c.png").array)) == {0, 0xFF0000, 0x008001}
    Pillow.fromarray(numbers((4, 4))).convert("RGB").save(tmp_path / "g.png")
    np.testing.assert_array_equal(read_label(tmp_path / "g.png").array[0], numbers((4, 4)))


def test_an_image_is_no_label(tmp_path: Path):
    with pytest.raises(UserError, match="whole numbers"):
        read_label(save_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(3, 3, 3)).astype(np.float32)))


def test_stems_know_double_suffixes():
    assert stem_of(Path("x/case.01.nii.gz")) == "case.01"
    assert stem_of(Path("scan.PNG")) == "scan"


# Geometry: read, to the network's grid, back, write


@given(
    affine=affines(),
    shape=st.tuples(*[st.integers(14, 22)] * 3),
    spacing=st.sampled_from([None, (1.0, 1.0, 1.0), (1.3, 0.9, 1.1)]),
    kind=st.sampled_from([np.uint8, np.int16, np.float32]),
    suffix=st.sampled_from([".nii.gz", ".nii", ".nrrd", ".mha"]),
)
@settings(max_examples=40)
def test_a_mask_that_was_put_in_comes_out_where_it_was(affine, shape, spacing, kind, suffix, tmp_path_factory):
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
