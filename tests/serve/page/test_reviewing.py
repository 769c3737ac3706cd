"""Verdicts and corrections made on the page, in the files that they end up in."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from helpers.page import Watched


def review(folder: Path, name: str) -> dict[str, object]:
    """What is written of a case."""
    return json.loads((folder / "review.json").read_text())["cases"][name]


def chips(page: Watched, name: str) -> list[str]:
    return page.page.locator(f"#cases .case:has-text('{name}') .chip").all_inner_texts()


def test_keys_accept_and_reject(page: Watched, folder: Path):
    page.open("picture.png")
    for key, verdict, word in (("r", "reject", "rejected"), ("a", "accept", "accepted")):
        page.page.keyboard.press(key)
        page.page.wait_for_selector(f"#review .verdict:text-is('{word}')")
        assert review(folder, "picture.png")["verdict"] == verdict
        assert word in chips(page, "picture.png")
    pressed = page.page.locator("#review [aria-pressed=true]").all_inner_texts()
    assert pressed == ["Accept"]


def save(page: Watched, key: str = "s") -> None:
    with page.page.expect_response("**/correction"):
        page.page.keyboard.press(key)
    page.page.wait_for_selector("#review .verdict:has-text('corrected')")


@pytest.mark.parametrize("name", ["straight", "oblique"])
def test_one_drawn_voxel_is_exactly_what_differs(page: Watched, folder: Path, name: str):
    """NiiVue has saved drawings of oblique volumes in another place (niivue#1374)."""
    page.open(f"{name}.nii.gz")
    page.page.keyboard.press("b")
    page.slide("Size", 1)
    page.page.focus("#viewer canvas")
    for key in ["ArrowLeft"] * 4 + ["ArrowUp"] * 9 + ["PageUp"] * 3:
        page.page.keyboard.press(key)
    page.page.keyboard.press("Enter")
    save(page)
    image = nib.load(folder.parent / "images" / f"{name}.nii.gz")
    before = nib.load(folder / f"{name}_mask.nii.gz")
    after = nib.load(folder / "reviewed" / f"{name}.nii.gz")
    assert after.shape == image.shape
    assert np.allclose(after.affine, image.affine, atol=1e-6)
    old, new = np.asarray(before.dataobj), np.asarray(after.dataobj)
    (voxel,) = np.argwhere(old != new)
    assert (old[tuple(voxel)], new[tuple(voxel)]) == (0, 1)
    # The cross was in the middle, and was moved 4 to the left, 9 to the front and 3 up.
    upright = nib.as_closest_canonical(image)
    middle = np.array(upright.shape) // 2 + [-4, 9, 3]
    world = upright.affine @ [*middle, 1]
    assert np.array_equal(np.round(np.linalg.inv(image.affine) @ world)[:3], voxel)
    size = int((old == 1).sum())
    found = review(folder, f"{name}.nii.gz")
    assert found["verdict"] == "fix"
    assert found["dice"] == pytest.approx({"ball": 2 * size / (2 * size + 1)})


def test_a_stroke_of_the_mouse_in_a_volume_is_saved_and_comes_back(page: Watched, folder: Path):
    page.open("oblique.nii.gz")
    page.choose("Axial")
    page.choose("Model")
    shown = page.volume()
    page.choose("Eraser")
    page.slide("Size", 3)
    box = page.page.locator("#viewer canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.move(x - 20, y)
    page.page.mouse.down()
    page.page.mouse.move(x + 20, y + 10, steps=4)
    page.page.mouse.up()
    page.settle()
    smaller = page.volume()
    assert smaller != shown
    save(page)
    old = np.asarray(nib.load(folder / "oblique_mask.nii.gz").dataobj)
    new = np.asarray(nib.load(folder / "reviewed" / "oblique.nii.gz").dataobj)
    assert (new <= np.maximum(old, new)).all()
    assert 2 < ((old == 1) & (new == 0)).sum() < 60
    page.open("oblique.nii.gz")
    assert page.page.get_by_role("radio", name="Correction", exact=True).is_checked()
    assert page.volume() == smaller


def test_a_pixel_of_a_picture_is_saved_where_it_was_clicked(page: Watched, folder: Path):
    mask = np.asarray(Pillow.open(folder / "picture_mask.png"))
    page.open("picture.png")
    page.page.keyboard.press("f")
    page.slide("Size", 1)
    box = page.page.locator("#viewer canvas").bounding_box()
    assert box is not None
    zoom = min(int(box["height"]) // mask.shape[0], int(box["width"]) // mask.shape[1])
    top = round((box["height"] - zoom * mask.shape[0]) / 2)
    left = round((box["width"] - zoom * mask.shape[1]) / 2)
    row, column = 7, 90
    assert mask[row, column] == 0
    page.page.mouse.click(
        box["x"] + left + (column + 0.5) * zoom, box["y"] + top + (row + 0.5) * zoom
    )
    save(page, "f")  # again: what was drawn is saved
    saved = np.asarray(Pillow.open(folder / "reviewed" / "picture.png"))
    assert np.argwhere(saved != mask).tolist() == [[row, column]]
    assert saved[row, column] == 1


def test_a_correction_is_not_lost_without_a_question(page: Watched):
    page.open("picture.png")
    page.page.focus("#viewer canvas")
    for key in ("e", "Enter"):
        page.page.keyboard.press(key)
    asked = []

    def refuse(dialog: object) -> None:
        asked.append(dialog.message)  # type: ignore[attr-defined]
        dialog.dismiss()  # type: ignore[attr-defined]

    page.page.on("dialog", refuse)
    page.page.click("#cases .case:has-text('straight')")
    assert asked == ["The correction is not saved. Leave it?"]
    assert page.page.inner_text("#title") == "picture.png"


def test_next_goes_to_the_worst_case_that_nobody_has_seen(page: Watched, folder: Path):
    (folder / "review.json").unlink(missing_ok=True)
    rows = json.loads((folder / "predictions.json").read_text())["predictions"]
    dice = {
        Path(row["input"]).name: min(found["expected_dice"] for found in row["quality"].values())
        for row in rows
    }
    worst, second, best = sorted(dice, key=lambda name: dice[name])
    assert page.open(best).locator("#cases .name").all_inner_texts() == [worst, second, best]
    page.page.keyboard.press("n")
    page.wait_for(worst)
    page.page.keyboard.press("a")
    page.page.wait_for_selector("#review .verdict:text-is('accepted')")
    page.page.keyboard.press("n")
    page.wait_for(second)


def test_an_image_that_was_replaced_is_shown_without_its_old_mask(page: Watched, folder: Path):
    image = folder.parent / "images" / "picture.png"
    before = image.read_bytes()
    try:
        Pillow.new("L", (60, 50), 90).save(image)
        page.open("picture.png")
        assert "image changed" in chips(page, "picture.png")
        told = page.page.inner_text("#review .warnings")
        assert "picture.png has changed" in told and "Segment it again" in told
        assert page.page.locator("#review [aria-pressed]").count() == 0
        assert page.look().std() < 60
    finally:
        image.write_bytes(before)
