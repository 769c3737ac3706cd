"""Tiles of large pictures, against the picture itself made smaller by other means."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cdal.imaging.formats import tiff_rows
from cdal.serve import opened
from helpers.serving import Running, served

HEIGHT, WIDTH = 700, 1101


def smooth(channels: int) -> np.ndarray:
    """A picture without edges, so that JPEG changes little."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / (90 + 20 * k)) * np.cos(y / (70 + 10 * k)) for k in range(channels)]
    return (127 + 120 * np.stack(waves, -1)).astype(np.float64)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    for module in (opened, tiff_rows):
        monkeypatch.setattr(module, "LARGE", 2**16)
    data = tmp_path / "data"
    data.mkdir()
    tifffile.imwrite(
        data / "rgb.tif", smooth(3).astype(np.uint8), tile=(256, 256), photometric="rgb"
    )
    tifffile.imwrite(
        data / "deep.tif", (100 * smooth(1)[..., 0]).astype(np.uint16), tile=(256, 256)
    )
    with served(tmp_path, (), None, data) as server:
        yield server


def tile(client: httpx.Client, case: str, level: int, x: int, y: int) -> np.ndarray:
    reply = client.get(f"/v1/cases/{case}/tiles/{level}/{x}_{y}.jpg")
    assert reply.status_code == 200, reply.text
    return np.asarray(Pillow.open(io.BytesIO(reply.content)).convert("RGB")).astype(float)


@pytest.mark.parametrize("name", ["rgb.tif", "deep.tif"])
def test_every_level_is_the_picture_made_smaller(running: Running, name: str):
    client = running.client
    (case,) = [one["id"] for one in client.get("/v1/cases").json()["cases"] if one["name"] == name]
    about = client.get(f"/v1/cases/{case}/tiles").json()
    assert about == {"width": WIDTH, "height": HEIGHT, "tile": 256, "levels": 12}
    assert client.get(f"/v1/cases/{case}").json()["kind"] == "slide"
    assert "tiles" in client.get(f"/v1/cases/{case}/layers/image").json()["detail"]
    picture = smooth(3) if name == "rgb.tif" else smooth(1).repeat(3, axis=-1)
    if name == "deep.tif":
        low, high = np.percentile((100 * picture).astype(np.uint16), [0.5, 99.5])
        picture = np.clip((100 * picture - low) / (high - low) * 255, 0, 255)
    for level in (11, 10, 8):
        size = (-(-WIDTH // 2 ** (11 - level)), -(-HEIGHT // 2 ** (11 - level)))
        whole = Pillow.fromarray(picture.astype(np.uint8)).resize(size, Pillow.Resampling.BOX)
        expected = np.asarray(whole).astype(float)
        for x, y in {(0, 0), ((size[0] - 1) // 256, (size[1] - 1) // 256)}:
            found = tile(client, case, level, x, y)
            part = expected[256 * y : 256 * y + 256, 256 * x : 256 * x + 256]
            assert found.shape == part.shape
            assert np.abs(found - part).mean() < 3
    assert tile(client, case, 0, 0, 0).shape == (1, 1, 3)
    for level, x, y in ((11, 5, 0), (11, 0, 3), (12, 0, 0)):
        assert client.get(f"/v1/cases/{case}/tiles/{level}/{x}_{y}.jpg").status_code == 404
