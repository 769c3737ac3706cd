"""Outlines in ASAP's XML."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from cdal.imaging.annotations import draw
from cdal.imaging.annotations.asap import asap_xml, class_names, read
from cdal.imaging.annotations.geojson import outlines
from cdal.runtime.errors import UserError
from helpers.annotations import known, picture_of

NAMES = ("background", "nuclei", "stroma & <b>")

QUPATH = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<ASAP_Annotations>
<Annotations Description="" H="0" Name="" W="0" X="0" Y="0">
<Annotation Color="#ff0000" Name="nuclei" PartOfGroup="nuclei" Type="Rectangle"><Coordinates>
<Coordinate Order="1" X="6" Y="2"/><Coordinate Order="0" X="2" Y="2"/>
<Coordinate Order="3" X="2" Y="5"/><Coordinate Order="2" X="6" Y="5"/></Coordinates></Annotation>
<Annotation Color="#F4FA58" Name="Annotation 1" PartOfGroup="None" Type="Dot"><Coordinates>
<Coordinate Order="0" X="8" Y="8"/></Coordinates></Annotation>
</Annotations>
<AnnotationGroups><Group Color="#ff0000" Name="nuclei" PartOfGroup="None"/></AnnotationGroups>
</ASAP_Annotations>"""
"""As the extension writes it (SubmitLabel.java), and a dot of ASAP's own."""


def test_what_qupath_writes_is_read_in_the_order_of_its_corners(tmp_path: Path):
    path = tmp_path / "a.xml"
    path.write_text(QUPATH)
    assert known(path).name == "ASAP XML"
    assert list(class_names(path)) == ["nuclei"]
    expected = np.zeros((10, 12), np.uint8)
    expected[2:5, 2:6] = 1
    segments = list(read(path, picture_of((10, 12)), "a.png"))
    np.testing.assert_array_equal(draw(segments, (10, 12), NAMES)[0], expected)


def test_a_mask_without_holes_comes_back_as_it_was(tmp_path: Path):
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 4:20], mask[12:25, 6:9], mask[20:28, 30:40], mask[0, 0] = 1, 2, 1, 2
    mask[5:7, 30] = 1
    text = asap_xml(outlines(lambda a, b: mask[a:b], mask.shape), NAMES)
    path = tmp_path / "a.xml"
    path.write_text(text, encoding="utf-8")
    assert set(class_names(path)) == set(NAMES[1:])
    segments = list(read(path, picture_of(mask.shape), "a.png"))
    np.testing.assert_array_equal(draw(segments, mask.shape, NAMES)[0], mask)


def test_objects_lie_where_their_part_of_the_picture_does():
    mask = np.zeros((10, 10), np.uint8)
    mask[2:4, 2:4], mask[7, 7] = 1, 1
    root = ElementTree.fromstring(
        asap_xml(outlines(lambda a, b: mask[a:b], mask.shape), NAMES, (100, 200), least_area=2)
    )
    (one,) = root.iter("Annotation")
    assert one.attrib == {
        "Name": "nuclei",
        "Type": "Polygon",
        "PartOfGroup": "nuclei",
        "Color": "#E69F00",
    }
    corners = {(float(c.attrib["X"]), float(c.attrib["Y"])) for c in one.iter("Coordinate")}
    assert min(corners) >= (102, 202) and max(corners) <= (104, 204)
    assert [c.attrib["Order"] for c in one.iter("Coordinate")] == [
        str(k) for k in range(len(corners))
    ]


@pytest.mark.parametrize(
    "content", ["<ASAP_Annotations/>", QUPATH.replace("Rectangle", "Dot"), "<ASAP_Annotations>"]
)
def test_files_without_outlines_are_named(tmp_path: Path, content: str):
    path = tmp_path / "a.xml"
    path.write_text(content)
    with pytest.raises(UserError, match=r"a\.xml"):
        list(known(path).read(path, picture_of((10, 12)), "a.png"))
