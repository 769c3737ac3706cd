"""Objects as polygons."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cdal.imaging.annotations.geojson import write_geojson
from helpers.polygons import rasterised


@given(st.integers(0, 10_000), st.integers(8, 40), st.sampled_from([4, 9, 2048]))
@settings(max_examples=60)
def test_polygons_give_the_mask_back(seed: int, size: int, band: int):
    rng = np.random.default_rng(seed)
    mask = (ndimage.gaussian_filter(rng.normal(size=(size, size + 3)), 1.2) > 0.02).astype(np.uint8)
    mask[:, size // 2 :] *= 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.geojson"
        count = write_geojson(
            path, lambda a, b: mask[a:b], mask.shape, ("background", "a", "b"), band=band
        )
        np.testing.assert_array_equal(rasterised(path, mask.shape, ("background", "a", "b")), mask)
    assert count == sum(ndimage.label(mask == k)[1] for k in (1, 2))
