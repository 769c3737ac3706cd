"""Pictures made small by rows, against NumPy on the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cdal.imaging.formats import tiff_rows
from cdal.imaging.image import Image
from cdal.imaging.open import open_image, open_mask
from cdal.imaging.palette import PALETTE
from cdal.imaging.reduce import reduced


class Rows(Image):
    """An image that remembers how many rows were asked for at a time."""

    most = 0

    def rows(self, start: int, stop: int) -> np.ndarray:
        Rows.most = max(Rows.most, stop - start)
        return super().rows(start, stop)


@pytest.mark.parametrize(("shape", "size"), [((700, 90), (7, 9)), ((613, 57), (50, 7))])
def test_means_and_middles_are_those_of_the_whole(shape: tuple[int, int], size: tuple[int, int]):
    rng = np.random.default_rng(0)
    array = rng.normal(size=(2, *shape)).astype(np.float32)
    small = reduced(Rows(array), size)
    nearest = reduced(Rows(array), size, nearest=True)
    assert small.shape == nearest.shape == (2, *size)
    assert Rows.most <= 256
    groups = [
        [np.flatnonzero(np.arange(n) * m // n == k) for k in range(m)]
        for n, m in zip(shape, size, strict=True)
    ]
    for i, rows in enumerate(groups[0]):
        for j, columns in enumerate(groups[1]):
            part = array[:, rows[:, None], columns].astype(np.float64)
            np.testing.assert_allclose(small[:, i, j], part.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
            assert nearest[0, i, j] in part[0]


def test_a_large_tiff_and_its_mask_are_never_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shape = (700, 1600)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    values = ((rows // 100 + columns // 100) % 3).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", values * 80, tile=(256, 256), compression="zlib")
    tifffile.imwrite(
        tmp_path / "mask.tif",
        values,
        tile=(256, 256),
        compression="zlib",
        photometric="palette",
        colormap=PALETTE.T.astype(np.uint16) * 257,
    )
    monkeypatch.setattr(tiff_rows, "LARGE", 2**20)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", None)
    with open_image(tmp_path / "image.tif") as image, open_mask(tmp_path / "mask.tif") as mask:
        assert not isinstance(image, Image)
        assert not isinstance(mask, Image)
        assert mask.shape == shape
        small, label = reduced(image, (7, 16)), reduced(mask, (7, 16), nearest=True)
    expected = (np.arange(7)[:, None] + np.arange(16)) % 3
    np.testing.assert_array_equal(label[0], expected)
    np.testing.assert_array_equal(small[0], expected * 80)


def test_a_slide_is_made_small_by_its_smaller_copy(tmp_path: Path):
    pytest.importorskip("openslide")
    base = np.full((1024, 2048, 3), 240, np.uint8)
    base[256:512, 512:1024] = (200, 40, 90)
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg"}
    about = "Aperio Image Library v1\n2048x1024 |MPP = 0.5|AppMag = 20"
    with tifffile.TiffWriter(tmp_path / "s.svs") as writer:
        writer.write(base, description=about, **options)
        writer.write(base[::4, ::4] // 2, description=about, subfiletype=1, **options)
    with open_image(tmp_path / "s.svs") as slide:
        small, whole = reduced(slide, (50, 100)), reduced(slide, (50, 100), nearest=True)
    assert small.shape == whole.shape == (3, 50, 100)
    np.testing.assert_allclose(small[:, 18, 38], (100, 20, 45), atol=5)  # the copy, half as bright
    np.testing.assert_allclose(whole[:, 18, 38], (200, 40, 90), atol=10)
