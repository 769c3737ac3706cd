"""MetaImage headers, against SimpleITK, and those that would harm it."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cdal.imaging.formats import read_image
from cdal.runtime.errors import UserError
from helpers.files import numbers
from helpers.voxels import assert_as_simpleitk, folder_of_traps

VOLUME = numbers((5, 4, 3), np.int16)  # [z, y, x]


def meta_image(path: Path, *, data: bytes = VOLUME.tobytes(), **fields: object) -> Path:
    lines = {
        "ObjectType": "Image",
        "NDims": 3,
        "DimSize": "3 4 5",
        "ElementType": "MET_SHORT",
        **fields,
    }
    lines["ElementDataFile"] = fields.get("ElementDataFile", "LOCAL")
    order = [name for name in lines if name != "ElementDataFile"] + ["ElementDataFile"]
    header = "".join(f"{name} = {lines[name]}\n" for name in order)
    path.write_bytes(header.encode() + data)
    return path


TURNED = {
    "TransformMatrix": "0.96 0.28 0 -0.28 0.96 0 0 0 1",
    "Offset": "1 -2 3.5",
    "ElementSpacing": "0.5 2 3",
}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        TURNED,
        {"Position": "1 2 3", "Rotation": "0 1 0 1 0 0 0 0 -1", "ElementSize": "1 2 3"},
        {"ElementSpacing": "-0.5 2 3", "Origin": "4 5 6"},
        {"ElementSpacing": "1 2 3", "ElementSize": "4 5 6"},
        {"BinaryData": "True", "BinaryDataByteOrderMSB": "True"},
        {"ElementByteOrderMSB": "True"},
        {
            "CompressedData": "True",
            "CompressedDataSize": len(zlib.compress(VOLUME.tobytes())),
            "data": zlib.compress(VOLUME.tobytes()),
        },
        {"BinaryData": "False", "data": (" ".join(map(str, VOLUME.ravel())) + "\n").encode()},
        {"HeaderSize": -1, "data": b"x" * 7 + VOLUME.tobytes()},
        {"NDims": 4, "DimSize": "3 4 5 1", "ElementSpacing": "1 2 3 1"},
        {"ElementNumberOfChannels": 2, "DimSize": "3 2 5"},
        {"ElementType": "MET_USHORT", "Comment": "a = b", "AnatomicalOrientation": "RAI"},
        {"ElementType": "MET_LONG", "data": numbers((5, 4, 3), np.int32).tobytes()},
        {"ElementType": "MET_DOUBLE", "data": numbers((5, 4, 3), np.float64).tobytes()},
    ],
)
def test_headers_mean_what_they_mean_to_simpleitk(fields: dict, tmp_path: Path):
    path = meta_image(tmp_path / "a.mha", **fields)
    theirs = sitk.ReadImage(str(path))
    if theirs.GetDimension() == 4:
        theirs = theirs[..., 0]
    assert_as_simpleitk(read_image(path), theirs)


HOSTILE = {
    "printf pattern": ({"ElementDataFile": "%s%s%s%s%s%s%s%s 1 12 1"}, "in several"),
    "pattern of step 0": ({"ElementDataFile": "%03d.raw 1 12 0"}, "in several"),
    "list": ({"ElementDataFile": "LIST\na.raw"}, "in several"),
    "300 axes": ({"NDims": 300, "TransformMatrix": "1 0 0 0 1 0 0 0 1"}, "300 axes"),
    "-1 axes": ({"NDims": -1}, "-1 axes"),
    "axes that are no whole number": ({"NDims": "2097152.5"}, "cannot be read"),
    "another folder": ({"ElementDataFile": "/etc/passwd"}, "file beside it"),
    "the folder above": ({"ElementDataFile": "../a.raw"}, "file beside it"),
    "on Windows": ({"ElementDataFile": "..\\a.raw"}, "file beside it"),
    "a pipe": ({"ElementDataFile": "pipe"}, "a pipe"),
    "a link": ({"ElementDataFile": "link"}, "link to another folder"),
    "nothing": ({"ElementDataFile": "b.raw"}, "no such file"),
    "too short": ({"DimSize": "3 4 6"}, "promises 144 bytes.*holds 120"),
    "compressed too short": (
        {"CompressedData": "True", "data": zlib.compress(VOLUME.tobytes()[:50])},
        "promises 120 bytes.*holds 50",
    ),
    "promises what no compression holds": (
        {"CompressedData": "True", "DimSize": "500 500 500", "data": zlib.compress(b"\0" * 9)},
        "promises 250000000 bytes",
    ),
    "another unit": ({"DistanceUnits": "um"}, "millimetres; the unit in its header is um"),
    "two sizes": ({"DimSize": "3 4 5\nDimSize = 300 4 5"}, "DimSize twice"),
    "colours": ({"ElementType": "MET_STRING"}, "MET_STRING"),
    "flat": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "cannot be inverted"),
    "nan": ({"ElementSpacing": "1 nan 1"}, "cannot be inverted"),
    "time": ({"NDims": 4, "DimSize": "3 2 5 2"}, "NAME_0000"),
    "long line": ({"Comment": "x" * 3000}, None),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_headers_are_refused_before_anything_is_opened(fault: str, tmp_path: Path):
    fields, message = HOSTILE[fault]
    folder = folder_of_traps(tmp_path, VOLUME.tobytes())
    path = meta_image(folder / "a.mha", **fields)
    if message is None:
        assert read_image(path).shape == (3, 4, 5)
        return
    with pytest.raises(UserError, match=message) as caught:
        read_image(path)
    assert str(folder) in str(caught.value)


def test_a_fourth_axis_is_channels_only_where_the_caller_says_so(tmp_path: Path):
    path = meta_image(tmp_path / "a.mha", NDims=4, DimSize="3 2 5 2")
    image = read_image(path, fourth_axis=2)
    np.testing.assert_array_equal(image.array, VOLUME.reshape(2, 5, 2, 3).transpose(0, 3, 2, 1))
    with pytest.raises(UserError, match="time"):
        read_image(path, fourth_axis=3)
