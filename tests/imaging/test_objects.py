"""Single objects of a mask, numbered."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.imaging.annotations.aperio import rasterise, read_outlines
from cdal.imaging.objects import number_objects
from helpers.data import real


def test_touching_objects_are_parted_and_the_mask_is_kept():
    y, x = np.mgrid[:60, :90]
    discs = [np.hypot(y - 30, x - c) for c in (25, 48, 75)]
    mask = np.min(discs, axis=0) < 13
    numbered = number_objects(mask, np.clip(1.2 - np.min(discs, axis=0) / 26, 0, 1))
    assert numbered.max() == 3
    np.testing.assert_array_equal(numbered > 0, mask)
    for distance in discs:
        assert len(np.unique(numbered[distance < 8])) == 1
    assert number_objects(mask * 0, mask * 0.0).max() == 0


def test_a_single_pixel_is_an_object():
    mask = np.zeros((20, 20), bool)
    mask[3, 3] = mask[10:15, 10:15] = True
    assert number_objects(mask, mask * 0.9).max() == 2


def test_most_real_nuclei_are_parted():
    """From the true outlines' union alone, the number of nuclei comes out to within a fifth."""
    for path in sorted((real("monuseg") / "test" / "annotations").glob("*.xml.gz"))[:2]:
        with Pillow.open(path.parents[1] / "images" / f"{path.name[:-7]}.png") as picture:
            size = picture.size[::-1]
        truth = rasterise(read_outlines(path), size)
        found = number_objects(truth > 0, (truth > 0) * 1.0).max()
        assert found == pytest.approx(len(np.unique(truth)) - 1, rel=0.2)
