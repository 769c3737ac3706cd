"""CVAT XML, typed by hand after CVAT's description of its format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cdal.runtime.errors import UserError
from helpers.annotations import drawn, filled, known, picture_of

SHAPE = (12, 16)

FILE = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>t</name><labels>
    <label><name>car</name><color>#fa3253</color><attributes></attributes></label>
    <label><name>road</name></label><label><name>unused</name></label>
  </labels></task></meta>
  <image id="0" name="day/b.png" width="5" height="4"></image>
  <image id="1" name="day/a.png" width="16" height="12">{shapes}</image>
</annotations>
"""


def save(path: Path, shapes: str) -> Path:
    path.write_text(FILE.format(shapes=shapes))
    return path


def test_shapes_in_the_order_of_z_and_masks_row_by_row_in_their_box(tmp_path: Path):
    """Oracles: matplotlib's fill, and NumPy."""
    mask = np.random.default_rng(0).random((3, 5)) < 0.5
    runs, inside = [0], False
    for pixel in mask.ravel():
        if bool(pixel) != inside:
            runs.append(0)
            inside = bool(pixel)
        runs[-1] += 1
    path = save(
        tmp_path / "annotations.xml",
        f"""
    <mask label="car" source="manual" occluded="0" rle="{", ".join(map(str, runs))}" left="9"
      top="2" width="5" height="3" z_order="2"></mask>
    <polygon label="road" source="manual" occluded="0" points="0.50,1.20;15.10,2.30;8.40,11.70"
      z_order="0"><attribute name="x">y</attribute></polygon>
    <box label="car" source="manual" occluded="0" xtl="2.0" ytl="6.0" xbr="5.0" ybr="8.0"
      z_order="1"></box>
    <polyline label="road" points="1,1;5,5;9,1" z_order="5"></polyline>
    <points label="road" points="1,1" z_order="5"></points>
    <tag label="road"></tag>""",
    )
    expected = filled([[0.5, 1.2], [15.1, 2.3], [8.4, 11.7]], SHAPE) * 2
    expected[6:8, 2:5] = 1
    expected[2:5, 9:14][mask] = 1
    np.testing.assert_array_equal(drawn(path, SHAPE, ("", "car", "road")), expected)
    assert known(path).name == "CVAT XML"
    assert known(path).class_names(path) == ("car", "road", "unused")
    assert known(path).image_names(path) == ("b.png", "a.png")
    nowhere = [s for s in known(path).read(path, picture_of(SHAPE), "a.png") if not s.inside.size]
    assert len(nowhere) == 2
    assert not drawn(path, (4, 5), ("", "car"), "b.png").any()


def test_turned_boxes_and_ellipses(tmp_path: Path):
    path = save(
        tmp_path / "a.xml",
        """<box label="car" xtl="6" ytl="2" xbr="10" ybr="10" rotation="90.0" z_order="0"/>
        <ellipse label="road" cx="8" cy="6" rx="1.5" ry="0.9" rotation="0" z_order="1"/>""",
    )
    expected = np.zeros(SHAPE, int)
    expected[4:8, 4:12] = 1
    expected[5:7, 7:9] = 2
    np.testing.assert_array_equal(drawn(path, SHAPE, ("", "car", "road")), expected)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<mask label="a" rle="4, 3" left="1" top="1" width="2" height="2"/>', "runs are not"),
        ('<mask label="a" rle="-1, 5" left="1" top="1" width="2" height="2"/>', "runs are not"),
        ('<mask label="a" rle="4" left="15" top="1" width="2" height="2"/>', "within 12 x 16"),
        ('<mask label="a" rle="4" left="0" top="0" width="99999999" height="9999999"/>', "within"),
        ('<polygon label="a" points="1,2;nan,4;5,6"/>', "expected coordinates"),
        ('<polygon label="a" points="1;2"/>', "expected pairs|cannot be read"),
        ('<box label="a" xtl="1"/>', "cannot be read as CVAT XML"),
    ],
)
def test_damaged_shapes_are_refused(shape: str, message: str, tmp_path: Path):
    path = save(tmp_path / "a.xml", shape)
    with pytest.raises(UserError, match=message) as caught:
        list(known(path).read(path, picture_of(SHAPE), "a.png"))
    assert str(path) in str(caught.value)


def test_videos_other_sizes_and_other_pictures_are_refused(tmp_path: Path):
    path = save(tmp_path / "a.xml", "")
    with pytest.raises(UserError, match=r"a\.png was drawn on a picture of 12 x 16"):
        drawn(path, (16, 12), ("",))
    with pytest.raises(UserError, match=r"lists no picture called c\.png"):
        drawn(path, SHAPE, ("",), "c.png")
    path.write_text('<annotations><track id="0" label="a"></track></annotations>')
    with pytest.raises(UserError, match="tracks of a video"):
        known(path).class_names(path)
