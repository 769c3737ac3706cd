"""Small pictures: the slice, its direction and its sides, outlines and uncertainty."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cdal.evaluation.review.opening import Files
from cdal.evaluation.review.views import SIDE, draw_view
from cdal.imaging.formats import tiff_rows, write_label, write_values
from cdal.imaging.image import Image
from cdal.imaging.palette import PALETTE
from cdal.runtime.errors import UserError
from helpers.files import disc, picture, save_nifti


def files(image: Path, mask: Path | None = None, uncertainty: Path | None = None) -> Files:
    return Files(image, mask, uncertainty, ("a", "b"), 0)


def centre_of(shown: Pillow.Image, colour: np.ndarray) -> tuple[float, float]:
    """Row and column, from 0 to 1, of the middle of what has a colour."""
    where = np.argwhere((np.asarray(shown) == colour).all(axis=-1))
    assert len(where)
    row, column = where.mean(axis=0) / np.asarray(shown).shape[:2]
    return float(row), float(column)


def test_a_picture_has_its_outline_and_its_uncertainty_beside_it(tmp_path: Path):
    source = picture(tmp_path / "a.png", np.full((50, 100), 90, np.uint8))
    like = Image(np.zeros((1, 50, 100), np.float32), suffix=".png")
    inside = np.zeros((50, 100), np.uint8)
    inside[10:20, 60:80] = 1
    mask = write_label(tmp_path / "a_mask", inside, like)
    alone, caption = draw_view(files(source, mask))
    assert alone.size == (SIDE, SIDE // 2)
    assert caption == "whole picture"
    row, column = centre_of(alone, PALETTE[1])
    assert (row, column) == (pytest.approx(0.3, abs=0.02), pytest.approx(0.7, abs=0.02))
    spread = write_values(tmp_path / "a_uncertainty", inside * 0.5, like)
    both, _ = draw_view(files(source, mask, spread))
    assert both.size == (2 * SIDE + 4, SIDE // 2)
    np.testing.assert_array_equal(np.asarray(both)[:, :SIDE], np.asarray(alone))
    map_shown = np.asarray(both)[:, SIDE + 4 :]
    assert tuple(map_shown[0, 0]) == (0, 0, 3)  # the ends of matplotlib's magma
    assert tuple(map_shown[30, 140]) == (251, 252, 191)


def test_colours_stay_colours(tmp_path: Path):
    colours = np.zeros((40, 40, 3), np.uint8)
    colours[..., 0] = 200
    shown, _ = draw_view(files(picture(tmp_path / "a.png", colours)))
    assert (np.asarray(shown) == (200, 0, 0)).all()


# A volume of 10 x 20 x 30 mm whose only bright corner is right, front and up.
WORLD = np.zeros((10, 20, 30), np.float32)
WORLD[6:9, 12:18, 20:28] = 100
WORLD += np.random.default_rng(0).normal(size=WORLD.shape).astype(np.float32)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("flip", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize(
    ("thick", "plane", "size", "place"),
    [
        (None, "axial", (10, 20), (0.25, 0.25)),
        (0, "sagittal", (20, 30), (0.2, 0.25)),
        (1, "coronal", (10, 30), (0.2, 0.25)),
    ],
)
def test_slices_are_shown_as_radiologists_see_them(
    tmp_path: Path,
    order: tuple[int, ...],
    flip: tuple[int, ...],
    thick: int | None,
    plane: str,
    size: tuple[int, int],
    place: tuple[float, float],
):
    """Whatever the order of the axes: front or head up, the patient's right on the left."""
    values, affine = WORLD, np.eye(4)
    if thick is not None:  # every third slice
        steps = [3 if axis == thick else 1 for axis in range(3)]
        values = WORLD[tuple(slice(1, None, step) for step in steps)]
        affine = np.diag([*steps, 1.0])
    made = nib.Nifti1Image(values, affine)
    turn = np.array([[order.index(axis), -1 if axis in flip else 1] for axis in range(3)])
    made = made.as_reoriented(turn)
    nib.save(made, tmp_path / "v.nii.gz")
    bright = (np.asarray(made.dataobj) > 50).astype(np.uint8)
    nib.save(nib.Nifti1Image(bright, made.affine), tmp_path / "mask.nii.gz")
    shown, caption = draw_view(files(tmp_path / "v.nii.gz", tmp_path / "mask.nii.gz"))
    wide, high = (round(length * SIDE / max(size)) for length in size)
    assert abs(shown.width - wide) <= 0.05 * SIDE  # thick voxels are cut off at the end
    assert abs(shown.height - high) <= 0.05 * SIDE
    assert caption.startswith(f"{plane} slice ")
    assert caption.endswith("the one with the largest segmented area")
    row, column = centre_of(shown, PALETTE[1])
    assert row == pytest.approx(place[0], abs=0.07)
    assert column == pytest.approx(place[1], abs=0.07)


def test_sides_have_their_lengths_in_millimetres(tmp_path: Path):
    save_nifti(tmp_path / "v.nii.gz", np.zeros((20, 40, 6), np.float32), np.diag([2, 0.5, 9, 1.0]))
    shown, caption = draw_view(files(tmp_path / "v.nii.gz"))
    assert shown.size == (SIDE, SIDE // 2)  # 40 mm from right to left, 20 mm from front to back
    assert caption == "axial slice 4 of 6, the middle one; no mask was saved"


def test_the_slice_is_that_with_the_most_foreground_or_else_doubt(tmp_path: Path):
    shape = (12, 12, 8)
    source = save_nifti(tmp_path / "v.nii.gz", np.ones(shape, np.float32))
    label, spread = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    label[2:4, 2:4, 1], label[2:9, 2:9, 5], spread[3, 3, 2] = 1, 2, 0.4
    full, empty = (
        save_nifti(tmp_path / f"{name}.nii.gz", values)
        for name, values in (("full", label), ("empty", 0 * label))
    )
    doubts = save_nifti(tmp_path / "spread.nii.gz", spread)
    assert "slice 6 of 8, the one with the largest" in draw_view(files(source, full, doubts))[1]
    assert "slice 3 of 8, the most uncertain" in draw_view(files(source, empty, doubts))[1]
    assert (
        "slice 5 of 8, the middle one; nothing was segmented" in draw_view(files(source, empty))[1]
    )


def test_pages_of_a_tiff_are_slices_without_a_place(tmp_path: Path):
    pages = np.zeros((5, 30, 60), np.uint8)
    pages[3, 5:10, 40:50] = 1
    tifffile.imwrite(tmp_path / "v.tif", pages * 200)
    tifffile.imwrite(tmp_path / "m.tif", pages)
    shown, caption = draw_view(files(tmp_path / "v.tif", tmp_path / "m.tif"))
    assert caption == "slice 4 of 5, the one with the largest segmented area"
    assert shown.size == (SIDE, SIDE // 2)
    row, column = centre_of(shown, PALETTE[1])
    assert (row, column) == (pytest.approx(0.25, abs=0.02), pytest.approx(0.75, abs=0.02))


def test_a_mask_of_another_shape_is_refused(tmp_path: Path):
    source = picture(tmp_path / "a.png", disc(40))
    mask = picture(tmp_path / "m.png", disc(41))
    with pytest.raises(UserError, match=r"expected the shape of its image, \(40, 40\)"):
        draw_view(files(source, mask))


def test_a_large_picture_is_drawn_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shape = (1260, 1260)
    inside = np.zeros(shape, np.uint8)
    inside[120:390, 810:1110] = 2
    tile = {"tile": (256, 256), "compression": "zlib"}
    tifffile.imwrite(tmp_path / "a.tif", inside * 60, **tile)
    colours = PALETTE.T.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "m.tif", inside, photometric="palette", colormap=colours, **tile)
    tifffile.imwrite(tmp_path / "u.tif", (inside / 8).astype(np.float32), **tile)
    monkeypatch.setattr(tiff_rows, "LARGE", 2**20)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    shown, caption = draw_view(files(tmp_path / "a.tif", tmp_path / "m.tif", tmp_path / "u.tif"))
    assert caption == "whole picture, 6 times smaller"
    row, column = centre_of(shown.crop((0, 0, SIDE, SIDE)), PALETTE[2])
    assert (row, column) == (pytest.approx(0.2, abs=0.02), pytest.approx(0.76, abs=0.02))
    half = np.asarray(shown)[40, SIDE + 4 + 150]
    assert tuple(half) == (182, 54, 121)  # the middle of matplotlib's magma
