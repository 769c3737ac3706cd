"""Images read, and results kept, some rows at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cdal.imaging.formats import tiff
from cdal.imaging.image import Image
from cdal.imaging.rows import Kept

LAYOUTS = [
    {"tile": (32, 48)},
    {"tile": (32, 48), "compression": "zlib", "predictor": True},
    {"tile": (64, 64), "compression": "lzw", "photometric": "rgb"},
    {"rowsperstrip": 7},
    {"rowsperstrip": 7, "compression": "zlib"},
    {"rowsperstrip": 100, "compression": "zlib", "photometric": "rgb"},
    {"byteorder": ">"},
    {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    {"photometric": "miniswhite"},
    {},
]


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("one_strip", [False, True])
def test_rows_are_those_of_the_whole(options: dict, kind: type, one_strip: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tiff, "LARGE", 1)
    if one_strip:
        monkeypatch.setattr(tiff, "LARGEST_STRIP", 1)
    samples = 4 if "extrasamples" in options else 3 if options.get("photometric") == "rgb" else 0
    array = np.random.default_rng(0).integers(0, 250, size=(100, 110, *([samples] if samples else []))).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    expected = array[..., :3] if samples else array[..., None]
    expected = np.invert(expected) if options.get("photometric") == "miniswhite" else expected
    with tiff.open_rows(tmp_path / "a.tif", tmp_path) as opened:
        assert opened is not None
        assert (opened.shape, opened.stored) == ((100, 110), kind)
        for start, stop in ((0, 100), (0, 1), (31, 65), (99, 100), (7, 14)):
            np.testing.assert_array_equal(np.moveaxis(opened.rows(start, stop), 0, -1), expected[start:stop])


def kept(array: np.ndarray, lead: int, height: int, path: Path | None) -> Kept:
    """An array kept some rows at a time."""
    rows = Kept(array.dtype.type, path)
    for top in range(0, array.shape[lead], height):
        rows.append(np.take(array, range(top, min(array.shape[lead], top + height)), axis=lead), lead)
    return rows


@given(
    lead=st.lists(st.integers(1, 3), max_size=2),
    rest=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    count=st.integers(1, 9),
    height=st.integers(1, 9),
    on_disk=st.booleans(),
)
@settings(max_examples=40)
def test_rows_kept_in_memory_and_on_disk_are_the_array(
    tmp_path_factory: pytest.TempPathFactory, lead: list[int], rest: list[int], count: int, height: int, on_disk: bool
):
    array = np.random.default_rng(0).normal(size=(*lead, count, *rest)).astype(np.float32)
    path = tmp_path_factory.mktemp("kept") / "rows" if on_disk else None
    rows = kept(array, len(lead), height, path)
    np.testing.assert_array_equal(rows.array(), array)
    np.testing.assert_array_equal(rows.rows(count // 2, count), np.take(array, range(count // 2, count), axis=len(lead)))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("pages", [(), (2,)])
def test_rows_become_a_tiled_tiff(kind: type, pages: tuple[int, ...], tmp_path: Path):
    array = np.random.default_rng(0).integers(0, 3, size=(*pages, 300, 517)).astype(kind)
    rows = kept(array, len(pages), 77, tmp_path / "rows")
    tiff.write_tiled(tmp_path / "m.tif", rows, Image(np.zeros((1, 0, 0)), suffix=".tif"), labels=kind == np.uint8)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), array)
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.pages[0].is_tiled
