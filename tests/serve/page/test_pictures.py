"""The pictures of the guide: `make pictures` draws them, and this compares them.

Fonts and graphics differ a little between machines, so the pictures are compared when they are
small.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage

from cdal.inference.predict import predict
from helpers.files import picture, save_nifti
from helpers.page import SAVED, Watched, bright

PICTURES = Path(__file__).parents[3] / "docs" / "guides" / "pictures"
WIDTH, HEIGHT, TIMES, TOLERANCE = 1200, 760, 8, 3.0
LEVEL = 2.4  # the structures are brighter than that, and nothing else is

pytestmark = pytest.mark.slow


def head(shape: tuple[int, ...]) -> np.ndarray:
    """Something like a head with two bright structures, made up."""
    rng = np.random.default_rng(3)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"), axis=-1)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    texture /= texture.std()

    def blob(centre: float, size: float, height: float) -> np.ndarray:
        at = np.array([centre, -0.15, 0.05])[: len(shape)]
        radii = np.array([0.55, 1, 0.8])[: len(shape)] * size
        return np.clip(height * (1 - (((place - at) / radii) ** 2).sum(axis=-1)), 0, 1)

    skull = 1 / (1 + np.exp(14 * (np.sqrt((place**2).sum(axis=-1)) - 0.85)))
    inside = 60 + 5 * texture + 150 * (blob(-0.35, 0.4, 1.6) + blob(0.32, 0.33, 1.6))
    return np.clip(skull * inside, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    images, out = root / "images", root / "results"
    volume = save_nifti(images / "scan-07.nii.gz", head((56, 64, 48)), np.diag([2.5, 2.5, 3, 1]))
    slice_ = picture(images / "slice-12.png", head((128, 128)))
    predict(bright(3, ("lesion",), LEVEL), [volume], out, save=SAVED)
    predict(bright(2, ("lesion",), LEVEL), [slice_], out, save=SAVED)
    return with_estimates(out)


def with_estimates(results: Path) -> Path:
    """Add what a model with estimates of quality would have written."""
    path = results / "predictions.json"
    record = json.loads(path.read_text())
    intervals = {"scan-07": (0.71, [0.58, 0.83]), "slice-12": (0.88, [0.81, 0.93])}
    for row in record["predictions"]:
        dice, interval = intervals[Path(row["input"]).name.split(".")[0]]
        for name, volume in row["volume"].items():
            row["quality"] = {
                name: {
                    "expected_dice": dice,
                    "dice_interval": interval,
                    "volume_interval": [0.85 * volume, 1.2 * volume],
                }
            }
    record["predictions"][0]["warnings"] = ["spacing: 3 mm; those of the training have 1 to 2 mm"]
    path.write_text(json.dumps(record))
    return results


def compare(page: Watched, name: str) -> None:
    """Compare the page with a picture of the guide; or draw it, if that is asked for."""
    page.settle()
    shot = Pillow.open(io.BytesIO(page.page.screenshot())).convert("RGB")
    path = PICTURES / f"{name}.png"
    if os.environ.get("CDAL_PICTURES"):
        path.parent.mkdir(exist_ok=True)
        shot.quantize(256, dither=Pillow.Dither.NONE).save(path, optimize=True)
    known = Pillow.open(path).convert("RGB")
    size = (WIDTH // TIMES, HEIGHT // TIMES)
    small = [
        np.asarray(one.resize(size, Pillow.Resampling.BOX)).astype(float) for one in (shot, known)
    ]
    assert abs(small[0] - small[1]).mean() < TOLERANCE


@pytest.fixture
def guide(page: Watched) -> Watched:
    page.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    return page


def test_a_volume_with_its_uncertainty(guide: Watched):
    guide.open("scan-07.nii.gz").keyboard.press(" ")
    guide.page.wait_for_timeout(1500)
    guide.page.keyboard.press(" ")
    guide.choose("3D")
    guide.page.wait_for_timeout(1500)
    compare(guide, "page-3d")
    guide.choose("All")
    guide.page.keyboard.press(" ")
    guide.page.focus("#viewer canvas")
    for _ in range(9):
        guide.page.keyboard.press("ArrowRight")
    guide.page.wait_for_timeout(1500)
    compare(guide, "page-volume")


def test_a_picture_that_is_corrected_in_the_dark(guide: Watched):
    guide.page.emulate_media(color_scheme="dark")
    guide.open("slice-12.png")
    guide.page.keyboard.press("b")
    box = guide.page.locator("#viewer canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + 0.45 * box["width"], box["y"] + 0.68 * box["height"]
    guide.page.mouse.move(x, y)
    guide.page.mouse.down()
    for step in range(12):
        guide.page.mouse.move(x + 12 * step, y - 3 * step * (12 - step) / 4)
    guide.page.mouse.up()
    compare(guide, "page-correction")
