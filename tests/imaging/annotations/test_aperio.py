"""Outlines in Aperio's XML."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.imaging.annotations import content as content_module
from cdal.imaging.annotations import draw
from cdal.imaging.annotations.aperio import class_names, rasterise, read, read_outlines
from cdal.runtime.errors import UserError
from helpers.annotations import filled, known, picture_of
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
    monkeypatch.setattr(content_module, "MOST_BYTES", 10_000)
    text = b"<a>" + b" " * 1_000_000 + b"</a>"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    with pytest.raises(UserError, match="it is larger"):
        read_outlines(tmp_path / name)


def test_layers_are_classes_and_negative_regions_are_holes(tmp_path: Path):
    """Typed by hand after ImageScope's files. Oracle: matplotlib's fill."""
    outer, hole = [[2.5, 3.2], [22.1, 4.7], [12.3, 17.9]], [[9.3, 5.1], [15.2, 6.4], [12.2, 11.8]]
    ring = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in outer)
    cut = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in hole)
    text = f"""<?xml version="1.0"?>
    <Annotations MicronsPerPixel="0.25">
      <Annotation Id="1" Name="tumour" Visible="1" LineColor="255"><Regions>
        <Region Id="1" Type="0" NegativeROA="0"><Vertices>{ring}</Vertices></Region>
        <Region Id="2" Type="0" NegativeROA="1"><Vertices>{cut}</Vertices></Region>
      </Regions></Annotation>
      <Annotation Id="2" Name=""><Regions>
        <Region Id="3" Type="2"><Vertices><Vertex X="1" Y="12"/><Vertex X="5" Y="16"/></Vertices>
        </Region>
        <Region Id="4" Type="3"><Vertices><Vertex X="1" Y="1"/><Vertex X="5" Y="5"/></Vertices>
        </Region>
      </Regions></Annotation>
    </Annotations>"""
    shape = (20, 25)
    for path, content in {
        tmp_path / "a.xml": text.encode(),
        tmp_path / "b.xml.gz": gzip.compress(text.encode()),
        tmp_path / "c.xml": text.split("?>", 1)[1].encode("utf-16"),
    }.items():
        path.write_bytes(content)
        if path.name != "c.xml":  # sixteen bits are read, but not recognised by their content
            assert known(path).name == "Aperio XML"
        segments = list(read(path, picture_of(shape), ""))
        assert [segment.name for segment in segments] == ["tumour", "", ""]
        drawn, _ = draw(segments[:1], shape, ("", "tumour"))
        np.testing.assert_array_equal(drawn > 0, filled(outer, shape) & ~filled(hole, shape))
        assert [segment.inside.sum() for segment in segments[1:]] == [12, 0]
        assert list(class_names(path)) == ["tumour"]
