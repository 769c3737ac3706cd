"""The table of annotation formats: which file is which, and files that are damaged on purpose."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import nrrd
import numpy as np
import pytest
from roifile import ImagejRoi

from cdal.imaging.annotations import (
    ANNOTATIONS,
    annotation_format,
    label_suffix_of,
    need_format,
)
from cdal.runtime.errors import UserError
from helpers.annotations import known, picture_of

SHAPE = (12, 16)

TEXTS = {
    "labelme.json": json.dumps(
        {"shapes": [{"label": "a", "points": [[1, 1], [9, 2], [5, 9]], "shape_type": "polygon"}]}
    ),
    "coco.json": json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.png"}],
            "categories": [{"id": 1, "name": "a"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 2, 5, 9]]},
                {
                    "id": 2,
                    "image_id": 1,
                    "category_id": 1,
                    "segmentation": {"size": SHAPE, "counts": [20, 100, 72]},
                },
            ],
        }
    ),
    "qupath.json": '[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": '
    '[[[1, 1], [9, 2], [5, 9], [1, 1]]]}, "properties": {"classification": {"name": "a"}}}]',
    "qupath.geojson": '{"type": "FeatureCollection", "features": []}',
    "cvat.xml": '<?xml version="1.0"?><annotations><image name="a.png" width="16" height="12">'
    '<polygon label="a" points="1,1;9,2;5,9"/></image></annotations>',
    "asap.xml": '<?xml version="1.0"?><ASAP_Annotations><Annotations><Annotation Name="x" '
    'Type="Polygon" PartOfGroup="a"><Coordinates><Coordinate Order="0" X="1" Y="1"/>'
    '<Coordinate Order="1" X="9" Y="2"/><Coordinate Order="2" X="5" Y="9"/></Coordinates>'
    "</Annotation></Annotations></ASAP_Annotations>",
    "aperio.xml": '<?xml version="1.0"?><Annotations><Annotation Name="a"><Regions><Region>'
    '<Vertices><Vertex X="1" Y="1"/><Vertex X="9" Y="2"/><Vertex X="5" Y="9"/></Vertices>'
    "</Region></Regions></Annotation></Annotations>",
}

NAMES = {
    "labelme.json": "labelme JSON",
    "coco.json": "COCO JSON",
    "qupath.json": "GeoJSON",
    "qupath.geojson": "GeoJSON",
    "cvat.xml": "CVAT XML",
    "asap.xml": "ASAP XML",
    "aperio.xml": "Aperio XML",
    "a.roi": "ImageJ ROI",
    "a.zip": "ImageJ ROI",
    "a.seg.nrrd": "a 3D Slicer segmentation",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file of each format."""
    folder = tmp_path_factory.mktemp("annotations")
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    region = ImagejRoi.frompoints([[1, 1], [9, 2], [5, 9]], name="a")
    region.tofile(folder / "a.roi")
    region.tofile(folder / "a.zip")
    header = {"Segment0_Name": "a", "Segment0_LabelValue": "1", "Segment0_Layer": "0"}
    nrrd.write(str(folder / "a.seg.nrrd"), np.ones((16, 12, 1), np.uint8), header)
    return folder


def read(path: Path) -> None:
    """Read a file in every way; `UserError` is the only error that may come."""
    found = need_format(path)
    if found is not None:
        found.class_names(path)
        if found.shared:
            found.image_names(path)
        list(found.read(path, picture_of(SHAPE), "a.png"))


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_recognised_by_its_content(files: Path, name: str):
    path = files / name
    assert [one.name for one in ANNOTATIONS if one.recognises(path)] == [NAMES[name]]
    suffix = ".seg.nrrd" if name.endswith(".seg.nrrd") else path.suffix
    assert label_suffix_of(path) == suffix
    assert known(path).class_names(path) == (() if name == "qupath.geojson" else ("a",))
    read(path)


@pytest.mark.parametrize(
    ("name", "content", "suffix"),
    [
        ("a.json", b'{"RepetitionTime": 2.0}', None),
        ("a.xml", b"<other/>", None),
        ("a.json", b"", ".json"),
        ("a.json", b"\x80\x81", ".json"),
        ("a.zip", b"", ".zip"),
        ("a.geojson", b"{}", ".geojson"),
        ("a.roi", b"", ".roi"),
        ("A.SEG.NRRD", b"NRRD0004\n\n", ".seg.nrrd"),
        ("a.nrrd", b"NRRD0004\n\n", ".nrrd"),
        ("a.b.png", b"", ".png"),
        ("a.txt", b"", None),
    ],
)
def test_side_files_of_other_programs_are_no_labels(
    name: str, content: bytes, suffix: str | None, tmp_path: Path
):
    (tmp_path / name).write_bytes(content)
    assert label_suffix_of(tmp_path / name) == suffix


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_and_a_truncated_file_have_errors_that_name_them(
    files: Path, name: str, tmp_path: Path
):
    content = (files / name).read_bytes()
    for cut in (0, 1, len(content) // 2, len(content) - 3):
        path = tmp_path / name
        path.write_bytes(content[:cut])
        if annotation_format(path) is None and name == "a.seg.nrrd":
            continue  # a file without segments is a label image
        with pytest.raises(UserError, match=name):
            read(path)


@pytest.mark.parametrize("name", NAMES)
def test_mutants_have_no_other_error(files: Path, name: str, tmp_path: Path):
    rng = np.random.default_rng(0)
    content = np.frombuffer((files / name).read_bytes(), np.uint8)
    path = tmp_path / name
    for number in range(100):
        mutant = content.copy()
        places = rng.integers(0, len(mutant), 1 + number % 4)
        mutant[places] = rng.choice([*b'0123456789-e.,;[]{}"<>', 0, 255], len(places))
        path.write_bytes(mutant.tobytes())
        try:
            read(path)
        except UserError as error:
            assert str(path) in str(error)


DEEP = {
    "deep.json": '{"shapes": [' + "[" * 100_000,
    "deep.geojson": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "numbers.json": '{"shapes": [{"label": "a", "points": [[1, ' + "9" * 5000 + "]]}]}",
    "large.json": '{"shapes": [{"label": "a", "points": [[1e400, 1], [2, 2], [3, 1]]}]}',
    "size.json": '{"images": [{"id": 1, "file_name": "a.png"}], "categories": [], "annotations": '
    '[{"image_id": 1, "segmentation": {"size": [12, 16], "counts": [1e300, 4]}}]}',
    "bomb.xml": '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{i} "{"&a;" * 10}">' for i in range(9))
    + "]><annotations>&a8;</annotations>",
    "external.xml": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<Annotations>&x;</Annotations>",
}


@pytest.mark.parametrize("name", DEEP)
def test_hostile_text_is_refused(name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_text(DEEP[name])
    with pytest.raises(UserError, match=name):
        read(path)


@pytest.mark.slow
def test_hostile_files_need_little_memory(tmp_path: Path):
    """In a process of 1.5 GB: full pictures without end, deep XML, an archive of zeros."""
    full = {"label": "a", "shape_type": "rectangle", "points": [[0, 0], [9e6, 9e6]]}
    (tmp_path / "many.json").write_text(json.dumps({"shapes": [full] * 100}))
    (tmp_path / "deep.xml").write_text("<annotations>" + "<a>" * 200_000)
    region = ImagejRoi.frompoints([[0, 0], [9000, 0], [9000, 9000]])
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", region.tobytes() + b"\0" * 2**28)
    code = """
import sys
from pathlib import Path
import numpy as np
from cdal.imaging.annotations import annotation_format
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
image = Image(np.zeros((1, 5000, 4000), np.uint8))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(path.name, sum(1 for _ in annotation_format(path).read(path, image, "a.png")))
    except UserError as error:
        print(path.name, "refused")
"""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1500 * 2**20, 1500 * 2**20))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["a.zip refused", "deep.xml refused", "many.json 100"]
