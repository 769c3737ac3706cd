"""What the page shows of volumes and pictures, against the files that it is made from."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from helpers.page import VOTES, Watched

COLOUR = (230, 159, 0)  # of the first class


def upright(path: Path) -> nib.Nifti1Image:
    """A volume with its axes to the right, front and top."""
    return nib.as_closest_canonical(nib.load(path))


def axial(page: Watched, spacing: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Colour of each voxel of the axial slice on the screen, `[X, Y, 3]`.

    The slice is as large as fits, in the middle, with the patient's right on the left. Colours are
    taken off the middle of the voxels, where the cross is.
    """
    page.choose("Axial")
    seen = page.look()
    size = np.array(shape[:2]) * spacing[:2]
    scale = min(seen.shape[1] / size[0], seen.shape[0] / size[1])
    left, top = (seen.shape[1] - scale * size[0]) / 2, (seen.shape[0] - scale * size[1]) / 2
    x = left + scale * spacing[0] * (np.arange(shape[0])[::-1] + 0.3)
    y = top + scale * spacing[1] * (np.arange(shape[1])[::-1] + 0.3)
    return seen[y.astype(int)[None, :], x.astype(int)[:, None]]


def is_colour(colours: np.ndarray, tolerance: int = 3) -> np.ndarray:
    return (abs(colours - np.array(COLOUR)) <= tolerance).all(axis=-1)


def told(volume: float) -> str:
    """A volume in mm3 as the page tells it."""
    return f"{volume / 1000:.3g} ml" if volume >= 1000 else f"{volume:.3g} mm³"


@pytest.mark.parametrize("name", ["straight", "oblique"])
def test_the_mask_of_a_volume_is_where_its_file_says(page: Watched, folder: Path, name: str):
    mask = upright(folder / f"{name}_mask.nii.gz")
    labels, spacing = np.asarray(mask.dataobj), np.array(mask.header.get_zooms()[:3])
    page.open(f"{name}.nii.gz")
    assert np.ptp(page.look(), axis=(0, 1)).max() > 100, "the canvas is of one colour"
    page.slide("Mask", 1)
    slice_ = labels[:, :, labels.shape[2] // 2]
    assert 0 < slice_.sum() < slice_.size
    assert np.array_equal(is_colour(axial(page, spacing, labels.shape)), slice_ == 1)
    assert page.volume() == told(labels.sum() * spacing.prod())


def test_a_threshold_redraws_the_mask_of_a_volume_and_its_size(page: Watched, folder: Path):
    probability = upright(folder / "straight_probability.nii.gz").get_fdata()
    probability = probability.reshape(probability.shape[:3])
    page.open("straight.nii.gz")
    page.choose("Threshold")
    page.slide("Mask", 1)
    for threshold in (0.2, 0.9):
        page.slide("Threshold", threshold)
        expected = probability >= threshold
        assert page.volume() == told(expected.sum())
        seen = is_colour(axial(page, np.ones(3), expected.shape))
        assert np.array_equal(seen, expected[:, :, expected.shape[2] // 2])


def test_votes_are_played_one_after_the_other(page: Watched, folder: Path):
    votes = np.asarray(nib.load(folder / "straight_votes.nii.gz").dataobj)
    sizes = [told(votes[..., k].sum()) for k in range(VOTES)]
    assert len(set(sizes)) == VOTES
    page.open("straight.nii.gz").keyboard.press("v")
    for size in (*sizes[1:], *sizes):
        page.page.wait_for_function(
            "size => document.querySelector('#shown td.shown').textContent === size", arg=size
        )
    page.page.keyboard.press("v")
    page.page.wait_for_selector("#shown button:text-is('Play')")
    page.slide("Vote", 0)
    assert page.volume() == sizes[0]


def test_keys_show_and_hide_the_layers_of_a_volume(page: Watched):
    page.open("straight.nii.gz")
    plain = page.look()
    for key, label in ((" ", "Uncertainty"), ("3", "Probability"), ("2", "Mask"), ("1", "Image")):
        page.page.keyboard.press(key)
        page.page.wait_for_timeout(300)
        assert (page.look() != plain).mean() > 0.01, label
        page.page.keyboard.press(key)
        page.page.wait_for_timeout(300)
        assert np.array_equal(page.look(), plain), label


def test_window_and_level_change_the_greys_of_a_volume(page: Watched):
    page.open("straight.nii.gz")
    page.slide("Mask", 0)
    plain = page.look().mean()
    page.slide("White", 60)
    brighter = page.look().mean()
    page.slide("Black", 55)
    assert plain < brighter
    assert page.look().mean() < brighter


def squares(page: Watched, shape: tuple[int, int]) -> np.ndarray:
    """Colours of the pixels of a picture, of which every one is a square, `[H, W, 3]`."""
    seen = page.look()
    zoom = min(seen.shape[0] // shape[0], seen.shape[1] // shape[1])
    top = round((seen.shape[0] - zoom * shape[0]) / 2)
    left = round((seen.shape[1] - zoom * shape[1]) / 2)
    inside = seen[top : top + zoom * shape[0], left : left + zoom * shape[1]]
    blocks = inside.reshape(shape[0], zoom, shape[1], zoom, 3)
    assert (blocks == blocks[:, :1, :, :1]).all(), "the pixels are no squares of one colour"
    return blocks[:, 0, :, 0]


def test_a_picture_is_shown_pixel_by_pixel(page: Watched, folder: Path):
    image = np.asarray(Pillow.open(folder.parent / "images" / "picture.png"))
    mask = np.asarray(Pillow.open(folder / "picture_mask.png"))
    page.open("picture.png")
    page.slide("Mask", 0)
    assert np.array_equal(squares(page, image.shape), np.repeat(image[..., None], 3, axis=-1))
    page.slide("Mask", 1)
    seen = squares(page, image.shape)
    assert np.array_equal(is_colour(seen, 0), mask == 1)
    assert page.volume() == f"{mask.sum():,} px"


def test_the_window_of_a_picture_spreads_its_greys(page: Watched, folder: Path):
    image = np.asarray(Pillow.open(folder.parent / "images" / "picture.png")).astype(float)
    page.open("picture.png")
    page.slide("Mask", 0)
    page.slide("Black", 40)
    page.slide("White", 120)
    expected = np.clip((image - 40) / 80 * 255, 0, 255)
    assert abs(squares(page, image.shape)[..., 0] - expected).max() <= 1


def test_a_threshold_and_the_votes_of_a_picture(page: Watched, folder: Path):
    values = np.asarray(Pillow.open(folder / "picture_probability.png")) / 65535
    page.open("picture.png")
    page.choose("Threshold")
    page.slide("Mask", 1)
    page.slide("Threshold", 0.8)
    close = abs(values - 0.8) < 1 / 255  # the page has 8 bits
    seen = is_colour(squares(page, values.shape), 0)
    assert np.array_equal(seen[~close], (values >= 0.8)[~close])
    page.choose("Votes")
    sizes = []
    for vote in range(VOTES):
        page.slide("Vote", vote)
        page.page.wait_for_timeout(200)
        sizes.append(int(page.volume().split()[0].replace(",", "")))
    assert sizes == sorted(set(sizes))


def test_a_picture_is_zoomed_and_moved(page: Watched):
    page.open("picture.png")
    whole = page.look()
    page.page.mouse.move(600, 400)
    page.page.mouse.wheel(0, -300)
    page.settle()
    assert (page.look() != whole).any()
    page.page.mouse.down()
    page.page.mouse.move(640, 430)
    page.page.mouse.up()
    page.page.keyboard.press("0")
    page.settle()
    assert np.array_equal(page.look(), whole)
