"""Outlines in Aperio's XML."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.imaging.annotations import aperio
from cdal.imaging.annotations.aperio import rasterise, read_outlines
from cdal.runtime.errors import UserError
from helpers.data import real


def test_a_nucleus_is_its_filled_outline_outline_pixels_included():
    square = np.array([[2, 3], [6, 3], [6, 5], [2, 5]])  # x, y
    expected = np.zeros((10, 10), int)
    expected[3:6, 2:7] = 1
    np.testing.assert_array_equal(rasterise([square], (10, 10)), expected)
    np.testing.assert_array_equal(rasterise([square + 0.9], (10, 10)), expected)
    two = rasterise([square, square + 2], (10, 10))
    assert (two == 2).sum() == 15  # the later one lies on top
    assert (
        rasterise([np.array([[-5, -5], [3, -5], [3, 3], [-5, 3]])], (10, 10)).sum() == 16
    )  # cut at the border


@pytest.mark.parametrize(
    ("content", "message"),
    [("<Annotations>", "cannot be read"), ("<Annotations/>", "it holds none")],
)
def test_annotations_that_cannot_be_read_are_named(content: str, message: str, tmp_path: Path):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(UserError, match=message):
        read_outlines(tmp_path / "a.xml")


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_real_masks_are_the_rasterised_outlines(every: int):
    """Of 27 annotations: the masks that were made of them elsewhere differ by at most ten pixels of
    a million.
    """
    annotations = sorted(real("monuseg").glob("*/annotations/*.xml.gz"))
    assert len(annotations) == 27
    for path in annotations[::every]:
        given = np.asarray(Pillow.open(path.parents[1] / "masks" / f"{path.name[:-7]}.png")) > 0
        ours = rasterise(read_outlines(path), given.shape) > 0
        assert (given != ours).sum() <= 10


@pytest.mark.parametrize("name", ["bomb.xml.gz", "long.xml"])
def test_a_text_that_is_too_long_is_not_parsed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(aperio, "_MOST", 10_000)
    text = b"<a>" + b" " * 1_000_000 + b"</a>"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    with pytest.raises(UserError, match="it has more than"):
        read_outlines(tmp_path / name)
