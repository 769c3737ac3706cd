"""Numbers of labels that are no classes: shades, numbered objects, what nobody annotated."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage

from cdal.datasets.check import check_folder
from cdal.datasets.check_values import looks_numbered, shades_of
from helpers.files import change, disc, disc_folder, kinds, picture

Y, X = np.mgrid[:128, :128]


def cells(count: int = 25) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.integers(5, 123, (count, 2))
    return np.any([(Y - y) ** 2 + (X - x) ** 2 <= 16 for y, x in centres], axis=0)


MASKS = {
    "disc": (Y - 60) ** 2 + (X - 66) ** 2 <= 900,
    "ellipse": (Y - 60) ** 2 / 900 + (X - 66) ** 2 / 200 <= 1,
    "square": (Y > 21) & (Y < 77) & (X > 35) & (X < 90),
    "cells": cells(),
}


def as_jpeg(mask: np.ndarray, quality: int) -> np.ndarray:
    Pillow.fromarray(mask).save(buffer := io.BytesIO(), "JPEG", quality=quality)
    return np.asarray(Pillow.open(buffer))


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("quality", [100, 97, 95, 90, 75, 50, 20])
def test_what_jpeg_made_of_a_mask_is_no_class(name: str, quality: int):
    mask = as_jpeg((MASKS[name] * 255).astype(np.uint8), quality)
    shades = shades_of(mask.astype(np.int32))
    assert len(np.unique(mask)) > 2
    assert shades
    assert 0 not in shades


@pytest.mark.parametrize("name", ["disc", "cells"])
@pytest.mark.parametrize("size", [64, 100, 256, 300, 512])
@pytest.mark.parametrize("method", ["BILINEAR", "BICUBIC", "LANCZOS"])
def test_what_a_change_of_size_made_of_a_mask_is_no_class(name: str, size: int, method: str):
    mask = Pillow.fromarray((MASKS[name] * 255).astype(np.uint8))
    resized = mask.resize((size, size), Pillow.Resampling[method])
    assert shades_of(np.asarray(resized).astype(np.int32))


def test_a_volume_that_was_resampled_is_found():
    ball = np.linalg.norm(np.mgrid[:24, :24, :24] - 12, axis=0) < 8
    assert shades_of(ndimage.zoom(ball * 200.0, 1.3, order=1).round().astype(np.int32))
    assert not shades_of(ball * 200)


def rings(width: int) -> np.ndarray:
    inner = ndimage.binary_erosion(MASKS["disc"], iterations=width)
    return MASKS["disc"] * 128 + inner * 127


def squares() -> np.ndarray:
    label = np.zeros((128, 128), np.int32)
    label[10:60, 10:60], label[60:110, 10:60], label[30:90, 70:120] = 85, 170, 255
    return label


def lesions() -> np.ndarray:
    label = MASKS["disc"] * 128
    label[60, 66], label[65, 66:68], label[70:74, 60:64] = 255, 255, 200
    return label


def vessels() -> np.ndarray:
    label = np.zeros((128, 128), np.int32)
    for k in range(8):
        label[(Y - 10 - k * 14 + X * 0.2).astype(int) == 0] = 128
        label[(X - 10 - k * 14 + Y * 0.3).astype(int) == 0] = 255
    return label


def border_class() -> np.ndarray:
    """Nuclei with a border of their own, as pixel classifiers are trained on."""
    return MASKS["cells"] * 1 + (MASKS["cells"] & ~ndimage.binary_erosion(MASKS["cells"]))


def tiny_objects() -> np.ndarray:
    label = np.zeros((128, 128), np.int32)
    for k in range(90):
        label[2 + 12 * (k // 9), 2 + 14 * (k % 9)] = k + 1
    return label


CLASSES = {
    "0, 85, 170, 255": squares(),
    "0, 128, 255, one in the other": rings(4),
    "lesions in an organ": lesions(),
    "vessels": vessels(),
    "0, 1, 2 with thin borders": border_class(),
    "tiny objects": tiny_objects(),
    "black and white": MASKS["cells"] * 255,
    "one value": np.full((8, 8), 255),
}


@pytest.mark.parametrize("name", CLASSES)
def test_true_classes_are_not_taken_for_shades(name: str):
    assert shades_of(CLASSES[name].astype(np.int32)) == []


def test_shades_stop_a_training_unless_they_are_declared(tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        change(
            tmp_path,
            f"masks/c{i}.png",
            lambda m: ndimage.zoom(m * 255.0, 1, order=1).astype(np.uint8),
        )
    change(tmp_path, "masks/c2.png", lambda m: as_jpeg(m, 97))
    message = kinds(tmp_path, "error")["values"]
    assert "c2.png" in message
    assert "JPEG or a change of size" in message
    assert "Threshold it at one half" in message
    # A declaration of black and white does not ask for more classes.
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "disc": 255}}')
    message = kinds(tmp_path, "error")["values"]
    assert "Threshold it at one half" in message
    assert '"class ' not in message
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "disc": "foreground"}}')
    assert "Threshold it at one half" in kinds(tmp_path, "error")["values"]
    values = np.unique(Pillow.open(tmp_path / "masks/c2.png")).tolist()
    labels = {f"v{value}": value for value in values}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert "values" not in kinds(tmp_path, "error")


def numbered(count: int, size: int = 96, gap: bool = False) -> np.ndarray:
    label = np.zeros((size, size), np.uint8)
    for k in range(count):
        y, x = 3 + 12 * (k // 7), 3 + 12 * (k % 7)
        label[y : y + 6, x : x + 6] = k + 1 + (gap and k > 1)
    return label


def test_numbered_objects_are_told_from_classes():
    assert looks_numbered(numbered(9).astype(np.int32))
    assert not looks_numbered(numbered(9, gap=True).astype(np.int32))
    assert not looks_numbered(numbered(1).astype(np.int32))
    assert not looks_numbered((numbered(12) % 3 + (numbered(12) > 0)).astype(np.int32))
    volume = np.stack([numbered(9)] * 3)
    assert looks_numbered(volume.astype(np.int32))


@pytest.mark.parametrize(
    "counts", [(10, 11, 12, 13, 14, 15), (3, 1, 2, 3, 1, 2), (1, 1, 2, 5, 3, 2)]
)
def test_numbers_of_objects_are_asked_about(counts: tuple[int, ...], tmp_path: Path):
    disc_folder(tmp_path, size=96)
    for i, count in enumerate(counts):
        picture(tmp_path / f"masks/c{i}.png", numbered(count))
    message = kinds(tmp_path, "warning")["values"]
    assert "numbered objects" in message
    assert '"NAME": "foreground"' in message
    labels = {"background": 0} | {f"organ {k}": k for k in range(1, max(counts) + 1)}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert "values" not in kinds(tmp_path, "warning")


def test_organs_are_not_asked_about(tmp_path: Path):
    """As many in nearly every case; or an organ and its tumours."""
    disc_folder(tmp_path, size=96)
    for i in range(6):
        picture(tmp_path / f"masks/c{i}.png", numbered(12 - (i == 0)))
    assert "values" not in kinds(tmp_path, "warning")
    for i in range(6):
        picture(tmp_path / f"masks/c{i}.png", numbered(1 + i % 2))
    assert "values" not in kinds(tmp_path, "warning")


def test_255_beside_small_numbers_is_no_class(tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        border = disc(radius=26 + i).astype(bool) & ~disc(radius=20 + i).astype(bool)
        change(
            tmp_path, f"masks/c{i}.png", lambda m, b=border: np.where(b, 255, m).astype(np.uint8)
        )
    message = kinds(tmp_path, "error")["values"]
    assert "255 beside small numbers" in message
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "disc": 1}}')
    assert "255 often marks what nobody annotated" in kinds(tmp_path, "error")["values"]
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "disc": 1, "ring": 255}}')
    assert not check_folder(tmp_path).errors


def test_an_empty_channel_is_a_warning_and_an_empty_image_an_error(tmp_path: Path):
    disc_folder(tmp_path)
    for i in range(6):
        change(tmp_path, f"images/c{i}.png", lambda m: np.stack([m, 255 - m, m // 2], axis=-1))
    assert "constant" not in kinds(tmp_path, "warning")
    change(tmp_path, "images/c2.png", lambda m: m * np.array([1, 1, 0], np.uint8))
    assert "c2.png: the channel 3 (blue) has no contrast" in kinds(tmp_path, "warning")["constant"]
    assert "constant" not in kinds(tmp_path, "error")
    change(tmp_path, "images/c2.png", lambda m: m * np.uint8(0) + np.array([5, 6, 7], np.uint8))
    assert "every voxel is 5" in kinds(tmp_path, "error")["constant"]
