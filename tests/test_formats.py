"""Every format there and back, as seen by programs that know nothing of ours; and every file that cannot be used."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import highdicom as hd
import imagecodecs
import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from pydicom.uid import ComputedRadiographyImageStorage

from cdal.data.formats import read_image, read_label, stem_of, write_label, write_values
from cdal.data.formats.dicom import choose_series, find_series, read_series, write_segmentation
from cdal.data.grid import from_grid, to_grid
from cdal.data.image import Image
from cdal.data.inputs import find_inputs
from cdal.errors import UserError
from cdal.recipe import DataSettings
from files import affines, ball, save_nifti, write_series

OBLIQUE = np.array([[0, -2.0, 0.1, 5], [1.5, 0, 0, -7], [0, 0.2, 3, 11], [0, 0, 0, 1]])
TURNED = np.array([[0, -2 * 0.96, 3 * 0.28, 5], [1.5, 0, 0, -7], [0, 2 * 0.28, 3 * 0.96, 11], [0, 0, 0, 1]])


def numbers(shape: tuple[int, ...], kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, size=shape).astype(kind)


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


# Files that cannot be used


def text(path: Path) -> Path:
    path.write_text("this is no image\n")
    return path


def half(path: Path, content: bytes) -> Path:
    path.write_bytes(content[: len(content) // 2])
    return path


def png(width: int = 64, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(0).integers(256, size=(height, width)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def png_bomb(path: Path) -> Path:
    """A header of 60000 x 60000 pixels, and nothing else."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
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
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (30000, 30000, 3000)})
    return path


def nrrd_bomb(path: Path) -> Path:
    path.write_bytes(b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 30000 30000 3000\nencoding: raw\nendian: little\n\n")
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
    return nib.Nifti1Image(np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32), np.eye(4)).to_bytes()


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
    "four axes": (lambda d: save_nifti(d / "a.nii.gz", np.ones((3, 3, 3, 2), np.float32)), "3 axes"),
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
    "npy bomb": (lambda d: npy_bomb(d / "a.npy"), "."),  # NumPy finds the file too short for its header
    "nrrd bomb": (lambda d: nrrd_bomb(d / "a.nrrd"), "CDAL_MAX_VALUES"),
    "cmyk tiff": (lambda d: cmyk(d / "a.tif"), "SEPARATED. Convert it"),
    "tiff bomb": (lambda d: tiff_bomb(d / "a.tif"), "CDAL_MAX_VALUES"),
}


@pytest.mark.parametrize("fault", BAD)
def test_files_that_cannot_be_used_are_named_with_the_remedy(fault: str, tmp_path: Path):
    make, said = BAD[fault]
    path = make(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
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


# DICOM


def test_a_series_is_read_in_its_own_place_and_unit(tmp_path: Path):
    """SimpleITK's reader, which sorts by position and rescales too, sees the same."""
    write_series(tmp_path / "s", numbers((5, 6, 7), np.uint16))
    (series,) = find_series(tmp_path / "s")
    image = read_series(series.files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    theirs = reader.Execute()
    there = np.asarray([theirs.TransformIndexToPhysicalPoint((c, r, s)) for s in (0, 4) for r in (0, 5) for c in (0, 6)])
    values = [theirs[c, r, s] for s in (0, 4) for r in (0, 5) for c in (0, 6)]
    for point, value in zip(there * (-1, -1, 1), values, strict=True):
        index = np.round(np.linalg.solve(image.affine[:3, :3], point - image.affine[:3, 3])).astype(int)
        assert image.array[(0, *index)] == value
        np.testing.assert_allclose(image.affine[:3, :3] @ index + image.affine[:3, 3], point, atol=1e-3)


def test_a_segmentation_lies_on_its_series_and_names_its_classes(tmp_path: Path):
    write_series(tmp_path / "s", numbers((5, 6, 7), np.uint16))
    files = find_series(tmp_path / "s")[0].files
    image = read_series(files)
    label = np.zeros(image.shape, np.uint8)
    label[1:3, 2:5, 1:4], label[3, :2, 5:] = 1, 2
    write_segmentation(tmp_path / "m.dcm", label, image, ("background", "liver", "spleen"), "test")
    seg = hd.seg.segread(tmp_path / "m.dcm")
    assert [seg.get_segment_description(k).segment_label for k in (1, 2)] == ["liver", "spleen"]
    sources = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in files}
    assert {str(uid) for _, _, uid in seg.get_source_image_uids()} <= sources
    assert seg.FrameOfReferenceUID == pydicom.dcmread(files[0]).FrameOfReferenceUID
    volume = seg.get_volume(combine_segments=True)
    lps = np.diag([-1.0, -1, 1, 1])
    for k in (1, 2):
        there = (lps @ volume.affine @ np.c_[np.argwhere(volume.array == k), np.ones((volume.array == k).sum())].T)[:3].T
        ours = (image.affine @ np.c_[np.argwhere(label == k), np.ones((label == k).sum())].T)[:3].T
        np.testing.assert_allclose(np.array(sorted(there.round(2).tolist())), np.array(sorted(ours.round(2).tolist())), atol=0.02)


def test_an_empty_segmentation_can_be_written(tmp_path: Path):
    write_series(tmp_path / "s", numbers((3, 6, 7), np.uint16))
    image = read_series(find_series(tmp_path / "s")[0].files)
    write_segmentation(tmp_path / "m.dcm", np.zeros(image.shape, np.uint8), image, ("background", "liver"), "test")
    assert hd.seg.segread(tmp_path / "m.dcm").pixel_array.max() == 0


def test_one_series_of_several_has_to_be_chosen(tmp_path: Path):
    write_series(tmp_path / "s", numbers((3, 6, 7), np.uint16), description="T1", number=3)
    write_series(tmp_path / "s", numbers((4, 6, 7), np.uint16), description="T2", number=4, first=10)
    found = find_series(tmp_path / "s")
    with pytest.raises(UserError, match=r"2 series are there.*--series.*3: T1 \(3 files.*4: T2 \(4 files"):
        choose_series(tmp_path / "s", found, None)
    with pytest.raises(UserError, match="no series is called 'T3'"):
        choose_series(tmp_path / "s", found, "T3")
    assert {len(choose_series(tmp_path / "s", found, name).files) for name in ("t2", "4", found[1].uid)} == {4}
    (one,), failed = find_inputs([tmp_path / "s"], series="T1")
    assert (one.name, one.suffix, len(one.series), failed) == ("s", ".dcm", 3, {})


@pytest.mark.parametrize("fault", ["missing slice", "twice", "pixels cut off", "header cut off", "another shape"])
def test_a_series_that_makes_no_volume_is_refused(fault: str, tmp_path: Path):
    folder = write_series(tmp_path / "s", numbers((6, 16, 17), np.uint16), order=range(6))
    files = sorted(folder.iterdir())
    if fault == "missing slice":
        files[2].unlink()
    elif fault == "twice":
        copy = pydicom.dcmread(files[2])
        copy.SOPInstanceUID = pydicom.uid.generate_uid()
        copy.save_as(folder / "again", enforce_file_format=True)
    elif fault in ("pixels cut off", "header cut off"):
        files[2].write_bytes(files[2].read_bytes()[: -200 if fault == "pixels cut off" else 400])
    else:
        other = pydicom.dcmread(files[2])
        other.Rows, other.PixelData = 15, other.PixelData[: 15 * 17 * 2]
        other.save_as(files[2], enforce_file_format=True)
    with pytest.raises(UserError, match=r"cannot be read as|expected a DICOM image") as caught:
        read_series(find_series(folder)[0].files)
    assert str(folder) in str(caught.value)
    if fault.endswith("off"):
        assert files[2].name in str(caught.value)


def test_series_without_what_may_be_empty_get_a_mask(tmp_path: Path):
    """As anonymisers leave them."""
    folder = write_series(tmp_path / "s", numbers((3, 6, 7), np.uint16))
    for path in folder.iterdir():
        file = pydicom.dcmread(path)
        for tag in ("PatientBirthDate", "StudyID", "StudyDate", "SliceThickness", "PatientName"):
            delattr(file, tag)
        file.save_as(path, enforce_file_format=True)
    image = read_series(find_series(folder)[0].files)
    write_segmentation(tmp_path / "m.dcm", np.ones(image.shape, np.uint8), image, ("background", "liver"), "test")
    assert hd.seg.segread(tmp_path / "m.dcm").pixel_array.min() == 1


def test_radiographs_and_pictures_in_one_folder_are_one_image_each(tmp_path: Path):
    for i in range(3):
        folder = write_series(tmp_path / "s", numbers((1, 6, 7), np.uint16), first=i)
        file = pydicom.dcmread(folder / f"IM{i:04d}")
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
            delattr(file, tag)
        file.save_as(folder / f"IM{i:04d}", enforce_file_format=True)
    Pillow.fromarray(numbers((8, 8))).save(tmp_path / "s/preview.png")
    found, failed = find_inputs([tmp_path / "s"])
    assert not failed
    assert sorted(one.name for one in found) == ["IM0000", "IM0001", "IM0002", "preview"]


def test_a_radiograph_is_bright_where_it_is_meant_to_be(tmp_path: Path):
    folder = write_series(tmp_path / "s", numbers((1, 6, 7), np.uint16))
    file = pydicom.dcmread(next(folder.iterdir()))
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "FrameOfReferenceUID"):
        delattr(file, tag)
    file.PhotometricInterpretation, file.Modality = "MONOCHROME1", "CR"
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    file.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    (one,), _ = find_inputs([tmp_path / "x.dcm"])
    image = one.read()
    stored = numbers((1, 6, 7), np.uint16)[0].astype(float)
    np.testing.assert_array_equal(image.array[0], stored.max() + stored.min() - stored)
    mask = (image.array[0] > 100).astype(np.uint8)
    write_segmentation(tmp_path / "m.dcm", mask, image, ("background", "lung"), "test")
    np.testing.assert_array_equal(np.squeeze(hd.seg.segread(tmp_path / "m.dcm").pixel_array), mask)


# Geometry: read, to the network's grid, back, write


@given(
    affine=affines(),
    shape=st.tuples(*[st.integers(14, 22)] * 3),
    spacing=st.sampled_from([None, (1.0, 1.0, 1.0), (1.3, 0.9, 1.1)]),
    kind=st.sampled_from([np.uint8, np.int16, np.float32]),
    suffix=st.sampled_from([".nii.gz", ".nii", ".nrrd", ".mha"]),
)
@settings(max_examples=40, deadline=None)
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
    grid = to_grid(image, DataSettings(spacing=spacing))
    back = from_grid(grid.array / 100, grid, image)[0]
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


def test_an_enhanced_file_of_many_frames_is_its_series(tmp_path: Path):
    folder = write_series(tmp_path / "s", numbers((4, 16, 18), np.uint16))
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    for i, file in enumerate(slices):
        file.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        file.AcquisitionNumber, file.InstanceNumber = 1, i + 1
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(slices, hd.UID(), 9, hd.UID(), 1)
    enhanced.save_as(tmp_path / "enhanced.dcm")
    (one,), failed = find_inputs([tmp_path / "enhanced.dcm"])
    assert not failed
    image, series = one.read(), read_series(find_series(folder)[0].files)
    there = {
        tuple(np.round(image.affine[:3] @ (k, r, c, 1), 1)): image.array[0, k, r, c]
        for k in range(4)
        for r in (0, 9)
        for c in (0, 7)
    }
    here = {
        tuple(np.round(series.affine[:3] @ (k, r, c, 1), 1)): series.array[0, k, r, c]
        for k in range(4)
        for r in (0, 9)
        for c in (0, 7)
    }
    assert there == here
    write_segmentation(tmp_path / "m.dcm", np.ones(image.shape, np.uint8), image, ("background", "liver"), "test")
    assert hd.seg.segread(tmp_path / "m.dcm").get_volume(combine_segments=True).array.shape == image.shape
