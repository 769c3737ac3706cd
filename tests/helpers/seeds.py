"""Small valid files of every format that is read, from which `helpers.mutants` makes others."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image as Pillow

from cdal.imaging.annotations import ANNOTATIONS, AnnotationFormat
from cdal.imaging.formats import FORMATS, format_of, read_image, read_label, tiff_rows
from cdal.imaging.image import Image
from cdal.runtime.errors import UserError
from helpers.dicom import axial_series, deflated, enhanced_ct, jpeg_lossless
from helpers.files import numbers, write_series

PICTURE = numbers((20, 24))
COLOURS = numbers((20, 24, 3))
VOLUME = numbers((6, 8, 5), np.int16)


@dataclass(frozen=True)
class Seed:
    """A small valid file.

    Attributes:
        name: its name.
        content: its bytes.
        read: reads a mutant of it; every exception but `UserError` leaves it.
        need: reads the file itself.
        text: whether it is or begins with text.
        beside: files beside it.
    """

    name: str
    content: bytes
    read: Callable[[Path], None]
    need: Callable[[Path], object]
    text: bool = False
    beside: Mapping[str, bytes] = field(default_factory=dict)


def image_seeds() -> dict[str, list[Seed]]:
    """Seeds by the name of the image format; a reader that has none gets an empty list."""
    tiff_rows.LARGE = 1  # every picture is read by region too
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {
            "NIfTI": _nifti(),
            "PNG": _png(),
            "JPEG": _pillow("JPEG", ".jpg"),
            "BMP": _pillow("BMP", ".bmp"),
            "TIFF": list(_tiff()),
            "NRRD": list(_itk(folder, ".nrrd", ".nhdr", "a.raw")),
            "MetaImage": list(_itk(folder, ".mha", ".mhd", "a.raw")),
            "NumPy": _npy(),
            "DICOM": list(_dicom(folder)),
            "whole slide": _slide(),
        }
    return {known.name: made.get(known.name, []) for known in FORMATS}


def _read_every_way(path: Path) -> None:
    for read in (read_image, read_label, _some_rows):
        with suppress(UserError):
            read(path)


def _some_rows(path: Path) -> None:
    known = format_of(path)
    if known is not None:
        with known.open_rows(path, None) as rows:
            if rows is not None:
                rows.rows(0, 3), rows.rows(rows.shape[0] - 1, rows.shape[0])


def _seed(name: str, content: bytes, **more: Any) -> Seed:
    return Seed(name, content, _read_every_way, read_image, **more)


def _nifti() -> list[Seed]:
    image = nib.Nifti1Image(VOLUME, np.diag([1, 2, 3, 1]))
    scaled = nib.Nifti1Image(VOLUME.astype(np.float64), np.diag([1, 2, 3, 1]))
    scaled.header.set_slope_inter(2, 1)
    scaled.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 100))
    second = nib.Nifti2Image(VOLUME, np.eye(4))
    return [
        _seed("a.nii", image.to_bytes()),
        _seed("b.nii", scaled.to_bytes()),
        _seed("c.nii.gz", imagecodecs.gzip_encode(image.to_bytes())),
        _seed("d.nii.gz", imagecodecs.gzip_encode(scaled.to_bytes())),
        _seed("e.nii.gz", imagecodecs.gzip_encode(second.to_bytes())),
    ]


def _saved(picture: Any, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _png() -> list[Seed]:
    gray, colours = Pillow.fromarray(PICTURE), Pillow.fromarray(COLOURS)
    palette = colours.convert("P", palette=Pillow.Palette.ADAPTIVE, colors=8)
    exif = Pillow.Exif()
    exif[274] = 6
    return [
        _seed("a.png", _saved(gray, "PNG", exif=exif)),
        _seed("b.png", _saved(colours.convert("RGBA"), "PNG")),
        _seed("c.png", _saved(palette, "PNG", transparency=bytes([0, 255, 30]))),
        _seed("d.png", imagecodecs.png_encode(COLOURS.astype(np.uint16) * 300)),
        _seed("e.png", _saved(gray.convert("1"), "PNG")),
        _seed("f.png", _saved(gray.convert("LA"), "PNG", dpi=(100, 100))),
    ]


def _pillow(kind: str, suffix: str) -> list[Seed]:
    gray, colours = Pillow.fromarray(PICTURE), Pillow.fromarray(COLOURS)
    made = [
        _seed(f"a{suffix}", _saved(gray, kind)),
        _seed(f"b{suffix}", _saved(colours, kind)),
        _seed(f"c{suffix}", _saved(gray.convert("1"), kind)),
    ]
    if kind == "JPEG":
        preview = _saved(colours, "MPO", save_all=True, append_images=[colours.resize((6, 5))])
        progressive = _saved(colours, kind, progressive=True, quality=50)
        return [*made, _seed("m.jpg", preview), _seed("p.jpg", progressive)]
    return [*made, _seed(f"p{suffix}", _saved(colours.convert("P"), kind))]


def _tiff() -> Iterator[Seed]:
    wide = numbers((40, 48))
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    layouts: list[tuple[np.ndarray, dict[str, Any]]] = [
        (PICTURE, {}),
        (COLOURS, {"photometric": "rgb", "compression": "lzw", "predictor": True}),
        (wide, {"tile": (16, 16), "compression": "zlib"}),
        (wide.astype(np.uint16), {"rowsperstrip": 7, "compression": "zstd", "byteorder": ">"}),
        (COLOURS, {"photometric": "rgb", "compression": "jpeg"}),
        (PICTURE, {"photometric": "palette", "colormap": ramp}),
        (PICTURE > 100, {"photometric": "miniswhite", "compression": "packbits"}),
        (numbers((3, 20, 24)), {"imagej": True, "metadata": {"axes": "CYX"}}),
        (numbers((2, 20, 24)), {"ome": True, "metadata": {"axes": "ZYX"}}),
        (PICTURE.astype(np.float32), {"extratags": [(274, "H", 1, 3, True)]}),
        (numbers((20, 24, 4)), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    ]
    for number, (array, options) in enumerate(layouts):
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, **options)
        yield _seed(f"a{number}.tif", stream.getvalue())


def _itk(folder: Path, whole: str, header: str, data: str) -> Iterator[Seed]:
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing((1.0, 2.0, 3.0))
    vectors = sitk.GetImageFromArray(numbers((4, 5, 6, 2), np.float32), isVector=True)
    for number, (made, packed) in enumerate([(image, True), (image, False), (vectors, True)]):
        path = folder / f"{number}{whole}"
        sitk.WriteImage(made, str(path), packed)
        yield _seed(path.name, path.read_bytes(), text=True)
    sitk.WriteImage(image, str(folder / f"a{header}"))
    beside = {data: (folder / data).read_bytes()}
    yield _seed(f"a{header}", (folder / f"a{header}").read_bytes(), text=True, beside=beside)


def _npy() -> list[Seed]:
    made = []
    for name, array in (("a.npy", PICTURE), ("b.npy", COLOURS.astype(">f8")), ("c.npy", VOLUME)):
        stream = io.BytesIO()
        np.save(stream, array)
        made.append(_seed(name, stream.getvalue(), text=name == "a.npy"))
    return made


def _dicom(folder: Path) -> Iterator[Seed]:
    from pydicom import dcmread
    from pydicom.uid import RLELossless

    write_series(folder / "series", numbers((4, 10, 12), np.uint16))
    files = {path.name: path.read_bytes() for path in sorted((folder / "series").iterdir())}
    last = max(files)
    yield Seed(
        last,
        files.pop(last),
        lambda path: _read_every_way(path.parent),
        lambda path: read_image(path.parent),
        beside=files,
    )
    path = folder / "radiograph.dcm"
    dataset = dcmread(folder / "series" / last)
    for tag in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
        del dataset[tag]
    dataset.save_as(path)
    yield _seed(path.name, path.read_bytes())
    dataset.compress(RLELossless)
    dataset.save_as(path)
    yield _seed(path.name, path.read_bytes())
    volume = numbers((1, 10, 12), np.uint16)
    for change in (deflated, jpeg_lossless):
        (path,) = axial_series(folder / change.__name__, volume, change=change).iterdir()
        yield _seed(path.name, path.read_bytes())
    path = enhanced_ct(folder / "frames.dcm", numbers((3, 10, 12), np.uint16), [0, 2, 4], [1, 2, 3])
    yield _seed(path.name, path.read_bytes())


def _slide() -> list[Seed]:
    stream = io.BytesIO()
    options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    tifffile.imwrite(
        stream,
        numbers((40, 48, 3)),
        tile=(16, 16),
        description="Aperio Image Library v1\n40x48 |AppMag = 20|MPP = 0.5",
        **options,
    )
    try:
        import openslide  # noqa: F401
    except ImportError:
        return []
    return [_seed("a.svs", stream.getvalue())]


_POINTS = [[2.0, 3.0], [15.5, 4.0], [12.0, 14.0], [3.0, 12.5]]
_RING = [*_POINTS, _POINTS[0]]
_ASAP = (
    "<ASAP_Annotations><Annotation PartOfGroup='a'><Coordinates>{}</Coordinates>".format(
        "".join(f"<Coordinate Order='{k}' X='{x}' Y='{y}'/>" for k, (x, y) in enumerate(_POINTS))
    )
    + "</Annotation></ASAP_Annotations>"
)
_LIKE = Image(np.zeros((1, 20, 24), np.float32), suffix=".png")


def annotation_seeds() -> dict[str, list[Seed]]:
    """Seeds by the name of the annotation format."""
    made: dict[str, tuple[str, Callable[[], bytes]]] = {
        "labelme": ("a.json", lambda: _json(_labelme())),
        "coco": ("a.json", lambda: _json(_coco())),
        "geojson": ("a.geojson", lambda: _json(_geojson())),
        "cvat": ("a.xml", _CVAT.encode),
        "asap": ("a.xml", _ASAP.encode),
        "aperio": ("a.xml", _APERIO.encode),
        "imagej": ("a.zip", _imagej),
        "seg_nrrd": ("a.seg.nrrd", _seg_nrrd),
        "dicom_seg": ("a.dcm", lambda: _drawn_on_a_series("dicom_seg", "write_segmentation")),
        "rtstruct": ("a.dcm", lambda: _drawn_on_a_series("rtstruct", "write_structures")),
    }
    seeds = {}
    for known in ANNOTATIONS:
        if known.module in made:
            name, content = made[known.module]
            read = _reader(known)
            text = known.module not in ("imagej", "dicom_seg", "rtstruct")
            seeds[known.name] = [Seed(name, content(), _without_user_errors(read), read, text)]
    return seeds


def _reader(known: AnnotationFormat) -> Callable[[Path], None]:
    like = _LIKE
    if known.module == "seg_nrrd":
        like = Image(np.zeros((1, 6, 8, 5), np.float32), np.diag([-1.0, -1, 1, 1]))
    elif known.module in ("dicom_seg", "rtstruct"):
        like = _series()

    def read(path: Path) -> None:
        if known.recognises(path):
            known.class_names(path)
            known.notes(path)
            list(known.read(path, like, "a.png"))

    return read


@cache
def _series() -> Image:
    """A small DICOM series."""
    with tempfile.TemporaryDirectory() as folder:
        return read_image(write_series(Path(folder) / "series", numbers((4, 10, 12), np.uint16)))


def _drawn_on_a_series(module: str, writer: str) -> bytes:
    """A label of two classes on the series, as a module of ours writes it."""
    write = getattr(import_module(f"cdal.imaging.annotations.{module}"), writer)
    like = _series()
    label = np.zeros(like.shape, np.uint8)
    label[2:9, 3:8, 1:3], label[2:4, 3:5, 2] = 1, 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.dcm"
        write(path, label, like, ("background", "cell", "other"), "x")
        return path.read_bytes()


def _without_user_errors(read: Callable[[Path], None]) -> Callable[[Path], None]:
    def quietly(path: Path) -> None:
        with suppress(UserError):
            read(path)

    return quietly


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _labelme() -> dict[str, Any]:
    shapes = [
        {"label": "cell", "points": _POINTS, "shape_type": "polygon"},
        {"label": "other", "points": [[1, 1], [8, 9]], "shape_type": "rectangle"},
        {"label": "other", "points": [[10, 10], [13, 10]], "shape_type": "circle"},
    ]
    size = {"imageHeight": 20, "imageWidth": 24}
    return {"version": "5", "shapes": shapes, "imagePath": "a.png", "imageData": None, **size}


def _coco() -> dict[str, Any]:
    flat = [x for point in _POINTS for x in point]
    about = {"image_id": 1, "category_id": 1, "bbox": [2, 3, 13, 11], "area": 100.0}
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 24}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 1, "iscrowd": 0, "segmentation": [flat], **about},
            {
                "id": 2,
                "iscrowd": 1,
                "segmentation": {"counts": [100, 30, 350], "size": [20, 24]},
                **about,
            },
        ],
    }


def _geojson() -> dict[str, Any]:
    hole = [[6.0, 6.0], [8.0, 6.0], [8.0, 8.0], [6.0, 6.0]]
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [_RING, hole]},
                "properties": {"classification": {"name": "cell", "color": [255, 0, 0]}},
            },
            {
                "type": "Feature",
                "geometry": {"type": "MultiPolygon", "coordinates": [[_RING], [hole]]},
                "properties": {"classification": {"name": "other"}},
            },
        ],
    }


_CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cell</name><color>#ff0000</color></label></labels></task></meta>
<image id="0" name="a.png" width="24" height="20">
<polygon label="cell" occluded="0" points="2.0,3.0;15.5,4.0;12.0,14.0" z_order="0"></polygon>
<box label="cell" occluded="0" xtl="1.0" ytl="2.0" xbr="8.0" ybr="9.0" z_order="1"></box>
<mask label="cell" occluded="0" rle="3, 4, 1, 4" left="2" top="3" width="4" height="3"></mask>
</image></annotations>
"""

_APERIO = """<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="cell"><Regions>
<Region Id="1"><Vertices><Vertex X="2.0" Y="3.0" Z="0"/><Vertex X="15.5" Y="4.0" Z="0"/>
<Vertex X="12.0" Y="14.0" Z="0"/></Vertices></Region></Regions></Annotation></Annotations>
"""


def _imagej() -> bytes:
    import roifile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        roi = roifile.ImagejRoi.frompoints(_POINTS, name="cell")
        archive.writestr("cell.roi", roi.tobytes())
    return stream.getvalue()


def _seg_nrrd() -> bytes:
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        "sizes: 6 8 5\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\n"
        "encoding: raw\nspace origin: (0,0,0)\nSegment0_ID:=Segment_1\nSegment0_Name:=cell\n"
        "Segment0_LabelValue:=1\nSegment0_Layer:=0\nSegment0_Extent:=0 5 0 7 0 4\n"
        "Segment0_Color:=0.5 0.6 0.7\nSegmentation_ReferenceImageExtentOffset:=0 0 0\n\n"
    )
    return header.encode() + bytes(n % 2 for n in range(240))
