"""NRRD headers, against SimpleITK, and those that would harm it."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from cdal.imaging.formats import read_image, stem_of
from cdal.runtime.errors import UserError
from helpers.files import numbers
from helpers.voxels import assert_as_simpleitk, folder_of_traps

VOLUME = numbers((5, 4, 3), np.int16)  # [z, y, x]
PLACED = {
    "space": "left-posterior-superior",
    "space directions": "(0.5,0.1,0) (-0.1,0.5,0) (0,0,2)",
    "space origin": "(1,2,3.5)",
}


def nrrd_file(path: Path, *, data: bytes = VOLUME.tobytes(), **fields: object) -> Path:
    lines = {
        "type": "short",
        "dimension": 3,
        "sizes": "3 4 5",
        "encoding": "raw",
        "endian": "little",
        **{name.replace("_", " "): value for name, value in fields.items()},
    }
    header = "".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None)
    path.write_bytes(f"NRRD0004\n# a comment\n{header}key:=value\n\n".encode() + data)
    return path


def renamed(fields: dict[str, object]) -> dict[str, object]:
    return {name.replace(" ", "_"): value for name, value in fields.items()}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        PLACED,
        {**PLACED, "space": "right-anterior-superior"},
        {**PLACED, "space": "RAS"},
        {**PLACED, "space": "left-anterior-superior"},
        {**PLACED, "space": "scanner-xyz"},
        {"space dimension": 3, **PLACED, "space": None},
        {**PLACED, "space origin": None},
        {**PLACED, "space units": '"mm" "mm" "mm"'},
        {"spacings": "1 2 3.5"},
        {"spacings": "1 nan 3.5"},
        {**PLACED, "centerings": "node node cell", "kinds": "domain domain domain"},
        {"encoding": "gzip", "data": gzip.compress(VOLUME.tobytes())},
        {"encoding": "gz", "data": gzip.compress(VOLUME.tobytes())},
        {"encoding": "ascii", "data": "\n".join(map(str, VOLUME.ravel())).encode()},
        {"endian": "big"},
        {"byte skip": -1, "data": b"x" * 9 + VOLUME.tobytes()},
        {"byte skip": 4, "data": b"x" * 4 + VOLUME.tobytes()},
        {"line skip": 2, "data": b"x\ny\n" + VOLUME.tobytes()},
        {"type": "unsigned short"},
        {"type": "uint16_t"},
        {"type": "signed short int"},
        {"type": "uchar", "endian": None, "data": numbers((5, 4, 3)).tobytes()},
        {"type": "double", "data": numbers((5, 4, 3), np.float64).tobytes()},
        {
            **PLACED,
            "dimension": 4,
            "sizes": "2 3 2 5",
            "kinds": "vector domain domain domain",
            "space directions": "none " + PLACED["space directions"],
        },
        {
            **PLACED,
            "dimension": 4,
            "sizes": "3 2 5 2",
            "kinds": "domain domain domain 2-vector",
            "space directions": PLACED["space directions"] + " none",
        },
    ],
)
def test_headers_mean_what_they_mean_to_simpleitk(fields: dict, tmp_path: Path):
    path = nrrd_file(tmp_path / "a.nrrd", **renamed(fields))
    theirs = sitk.ReadImage(str(path), imageIO="NrrdImageIO")
    assert_as_simpleitk(read_image(path), theirs)


def test_bzip2_is_read(tmp_path: Path):  # which SimpleITK does not
    path = nrrd_file(tmp_path / "a.nrrd", encoding="bzip2", data=bz2.compress(VOLUME.tobytes()))
    np.testing.assert_array_equal(read_image(path).array[0], VOLUME.T)


HOSTILE = {
    "a long space": ({"space": "left-posterior-superior" * 40}, None),
    "another folder": ({"data_file": "/etc/passwd"}, "file beside it"),
    "the folder above": ({"data_file": "../a.raw"}, "file beside it"),
    "the other name": ({"datafile": "../a.raw"}, "file beside it"),
    "a list": ({"data_file": "LIST"}, "in several"),
    "a pattern": ({"data_file": "a%03d.raw 1 5 1"}, "in several"),
    "a pipe": ({"data_file": "pipe"}, "a pipe"),
    "a link": ({"data_file": "link"}, "link to another folder"),
    "too short": ({"sizes": "3 4 6"}, "promises 144 bytes.*holds 120"),
    "compressed too short": (
        {"encoding": "gzip", "data": gzip.compress(VOLUME.tobytes()[:50])},
        "promises 120 bytes.*holds 50",
    ),
    "another unit": (
        {**renamed(PLACED), "space_units": '"um" "um" "um"'},
        "millimetres; the unit in its header is um",
    ),
    "no endian": ({"endian": None}, "endian"),
    "hex": ({"encoding": "hex"}, "encoding raw, gzip"),
    "sizes": ({"sizes": "3 4"}, "expected a picture or a volume"),
    "negative": ({"sizes": "3 -4 -5"}, "holds nothing|cannot be read"),
    "a block": ({"type": "block"}, "block"),
    "time": ({"dimension": 4, "sizes": "3 2 5 2"}, "NAME_0000"),
    "frames": (
        {"dimension": 4, "sizes": "2 3 2 5", "kinds": "list domain domain domain"},
        "a list of 2",
    ),
    "complex": (
        {"dimension": 4, "sizes": "2 3 2 5", "kinds": "complex domain domain domain"},
        "kinds of its",
    ),
    "twice": ({"sizes": "3 4 5\nsizes: 3 4 5"}, "Duplicate"),
    "flat": (
        {**renamed(PLACED), "space_directions": "(1,0,0) (1,0,0) (0,0,1)"},
        "cannot be inverted",
    ),
    "no direction": (
        {**renamed(PLACED), "space_directions": "(1,0,0) none (0,0,1)"},
        "a direction in space",
    ),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_headers_are_refused_before_anything_is_opened(fault: str, tmp_path: Path):
    fields, message = HOSTILE[fault]
    folder = folder_of_traps(tmp_path, VOLUME.tobytes())
    path = nrrd_file(folder / "a.nrrd", **fields)
    if message is None:
        assert read_image(path).shape == (3, 4, 5)
        return
    with pytest.raises(UserError, match=message) as caught:
        read_image(path)
    assert str(folder) in str(caught.value)


def test_numbers_beside_the_header(tmp_path: Path):
    (tmp_path / "a.raw").write_bytes(VOLUME.tobytes())
    path = nrrd_file(tmp_path / "a.nhdr", data=b"", data_file="a.raw")
    np.testing.assert_array_equal(read_image(path).array[0], VOLUME.T)


def test_a_list_is_channels_only_where_the_caller_says_so(tmp_path: Path):
    path = nrrd_file(
        tmp_path / "a.nrrd", dimension=4, sizes="2 3 2 5", kinds="list domain domain domain"
    )
    assert read_image(path, fourth_axis=2).array.shape == (2, 3, 2, 5)


def test_a_segmentation_of_3d_slicer_belongs_to_its_image(tmp_path: Path):
    assert stem_of(Path("x/case.01.seg.nrrd")) == "case.01"
    assert read_image(nrrd_file(tmp_path / "a.seg.nrrd")).suffix == ".nrrd"
