"""ImageJ regions, written by roifile."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi
from skimage.draw import ellipse, polygon2mask

from cdal.imaging.annotations import annotation_format, draw
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from helpers.annotations import drawn, filled, known, picture_of

SHAPE = (30, 36)
RING = np.array([[3, 4], [20, 6], [14, 25], [6, 18]])


def save(path: Path, *regions: ImagejRoi) -> Path:
    for region in regions:
        region.tofile(path)
    return path


def box(
    kind: ROI_TYPE, top: int, left: int, bottom: int, right: int, **fields: object
) -> ImagejRoi:
    return ImagejRoi(roitype=kind, top=top, left=left, bottom=bottom, right=right, **fields)


def path_of(*rings: list[list[float]]) -> np.ndarray:
    """A composite's path: move to (0), line to (1), close (4)."""
    words: list[float] = []
    for (x, y), *rest in rings:
        words += [0, x, y]
        for point in rest:
            words += [1, *point]
        words.append(4)
    return np.array(words, np.float32)


def test_each_kind_of_region_is_filled(tmp_path: Path):
    """Writer: roifile. Oracles: scikit-image's fill of the corners, and NumPy."""
    fraction = RING + np.array([[0.31, 0.27], [0.4, 0.1], [0.2, 0.6], [0.7, 0.3]])
    whole = ImagejRoi.frompoints(RING, name="polygon")
    exact = ImagejRoi.frompoints(fraction.astype(np.float32), name="exact")
    exact.roitype = ROI_TYPE.FREEHAND
    rect = box(ROI_TYPE.RECT, 5, 8, 12, 30, name="rect")
    oval = box(ROI_TYPE.OVAL, 4, 6, 23, 31, name="oval")
    expected = {
        "polygon": filled(RING + 1e-6, SHAPE),
        "exact": polygon2mask(SHAPE, fraction[:, ::-1] - 0.5),
        "rect": np.zeros(SHAPE, bool),
        "oval": np.zeros(SHAPE, bool),
    }
    expected["rect"][5:12, 8:30] = True
    expected["oval"][ellipse(13.5 - 0.5, 18.5 - 0.5, 9.5, 12.5, SHAPE)] = True
    for region in (whole, exact, rect, oval):
        path = save(tmp_path / f"{region.name}.roi", region)
        mask = drawn(path, SHAPE, ("", region.name)) > 0
        np.testing.assert_array_equal(mask, expected[region.name], err_msg=region.name)


def test_a_composite_has_holes_and_several_parts(tmp_path: Path):
    """Writer: roifile. Oracle: exclusive or of matplotlib's fills."""
    rings = [
        [[2.1, 2.2], [20.4, 3.1], [18.2, 20.3], [3.1, 18.2]],
        [[6.1, 6.2], [12.3, 7.1], [11.2, 12.4], [7.3, 11.1]],
        [[25.2, 20.1], [33.1, 21.3], [30.4, 28.2]],
    ]
    words = path_of(*rings)
    region = box(ROI_TYPE.RECT, 2, 2, 28, 33, name="c", shape_roi_size=len(words))
    region.multi_coordinates = words
    path = save(tmp_path / "c.roi", region)
    expected = np.logical_xor.reduce([filled(ring, SHAPE) for ring in rings])
    np.testing.assert_array_equal(drawn(path, SHAPE, ("", "c")) > 0, expected)


def test_a_fitted_ellipse_is_turned(tmp_path: Path):
    """Writer: roifile, which keeps the ratio in the place of the arrow. Oracle: scikit-image."""
    style, head, arc = struct.unpack(">BBh", struct.pack(">f", 0.5))
    region = ImagejRoi(
        roitype=ROI_TYPE.FREEHAND,
        subtype=ROI_SUBTYPE.ELLIPSE,
        x1=10.0,
        y1=8.0,
        x2=26.0,
        y2=20.0,
        arrow_style_or_aspect_ratio=style,
        arrow_head_size=head,
        rounded_rect_arc_size=arc,
        n_coordinates=3,
        name="e",
    )
    region.integer_coordinates = np.array([[0, 0], [5, 0], [5, 5]], np.int32)
    path = save(tmp_path / "e.roi", region)
    expected = np.zeros(SHAPE, bool)
    expected[ellipse(14 - 0.5, 18 - 0.5, 5, 10, SHAPE, -np.arctan2(12, 16))] = True
    assert (drawn(path, SHAPE, ("", "e")) > 0).sum() == pytest.approx(expected.sum(), abs=4)
    assert ((drawn(path, SHAPE, ("", "e")) > 0) != expected).sum() <= 4


def test_classes_are_groups_or_names_without_their_numbers(tmp_path: Path):
    regions = [
        box(ROI_TYPE.RECT, 0, 0, 5, 5, name="nucleus"),
        box(ROI_TYPE.RECT, 0, 0, 5, 5, name="nucleus-1"),
        box(ROI_TYPE.RECT, 0, 0, 5, 5, name="0012-0034"),
        box(ROI_TYPE.RECT, 0, 0, 5, 5, name="0001-0012-0034"),
        box(ROI_TYPE.RECT, 0, 0, 5, 5, name="x", group=4),
        ImagejRoi(roitype=ROI_TYPE.LINE, x1=1, y1=1, x2=5, y2=5, name="line"),
    ]
    path = save(tmp_path / "a.zip", *regions)
    segments = list(known(path).read(path, picture_of(SHAPE)))
    names = ["nucleus", "nucleus", "", "", "group 4", "line"]
    assert [segment.name for segment in segments] == names
    assert [segment.inside.sum() for segment in segments] == [25, 25, 25, 25, 25, 0]
    assert known(path).class_names(path) == ("nucleus", "group 4", "line")


def test_regions_lie_on_the_pages_of_a_stack(tmp_path: Path):
    path = save(tmp_path / "a.roi", box(ROI_TYPE.RECT, 1, 2, 4, 6, name="a", position=3))
    volume, _ = draw(known(path).read(path, picture_of((8, 9, 5), ".tif")), (8, 9, 5), ("", "a"))
    assert volume.sum() == volume[1:4, 2:6, 2].sum() == 12
    with pytest.raises(UserError, match=r"slices 1 to 2; a lies on 3"):
        list(known(path).read(path, picture_of((8, 9, 2), ".tif")))
    with pytest.raises(UserError, match="volume in space"):
        list(known(path).read(path, Image(np.zeros((1, 8, 9, 5)), np.eye(4))))


def test_archives_of_something_else_and_damaged_ones(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    assert annotation_format(tmp_path / "other.zip") is None
    new = (tmp_path / "other.zip").read_bytes()
    assert b"PK\x01\x02\x14\x03\x14" in new
    for name, content in {
        "empty.zip": b"PK\x05\x06" + b"\0" * 18,
        "cut.zip": b"PK\x03\x04 no more",
        "version.zip": new.replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\xca"),
        "short.roi": b"Iout",
        "type.roi": b"Iout\0\xe3\x63" + b"\0" * 80,
        "many.roi": b"Iout\0\xe3\0\0" + b"\0" * 8 + b"\xff\xff" + b"\0" * 60,
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match=name):
            list(known(path).read(path, picture_of(SHAPE)))


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", b"\0" * 2**20)
    content = (tmp_path / "a.zip").read_bytes()
    size = struct.pack("<I", 2**20)
    (tmp_path / "a.zip").write_bytes(content.replace(size, struct.pack("<I", 2**31)))
    path = tmp_path / "a.zip"
    with pytest.raises(UserError, match="256 MB of regions"):
        list(known(path).read(path, picture_of(SHAPE)))


def test_round_corners_are_not_guessed(tmp_path: Path):
    region = box(ROI_TYPE.RECT, 1, 2, 9, 9, name="a", rounded_rect_arc_size=3)
    region.options = ROI_OPTIONS(0)
    path = save(tmp_path / "a.roi", region)
    with pytest.raises(UserError, match="round corners"):
        list(known(path).read(path, picture_of(SHAPE)))


@pytest.mark.parametrize("named", [False, True])
def test_a_region_that_ends_early_is_refused_wherever_it_ends(tmp_path: Path, named: bool):
    """Without its second header or its name it would have another class, or none."""
    points = [[1, 1], [9, 2], [5, 9]]
    region = ImagejRoi.frompoints(points, name="lesion" if named else None)
    whole = save(tmp_path / "whole.roi", region).read_bytes()
    path = tmp_path / "a.roi"
    for size in range(4, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"a\.roi"):
            list(known(path).read(path, picture_of((12, 12)), "a.png"))
