"""ASAP XML: outlines of objects in a picture, as ASAP writes them and QuPath's extension does."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cdal.imaging.annotations import Segment
from cdal.imaging.annotations.content import read_xml
from cdal.imaging.annotations.geojson import Outline
from cdal.imaging.annotations.polygons import fill, need_picture
from cdal.imaging.image import Image
from cdal.imaging.palette import PALETTE
from cdal.runtime.errors import UserError

_NO_GROUP = "None"
_POINTS = ("dot", "pointset", "points")
"""Types that enclose nothing."""


def recognises(path: Path) -> bool:
    """Whether the root element of a file is that of ASAP."""
    with path.open("rb") as file:
        return re.search(rb"<ASAP_Annotations[\s>/]", file.read(4096)) is not None


def class_names(path: Path) -> Iterator[str]:
    """Yield the group of each object that is in one."""
    return (name for one in _objects(path) if (name := _class_of(one)))


def read(path: Path, like: Image, image: str) -> Iterator[Segment]:
    """Yield the objects of a picture; the class of an object is its group.

    The format has no holes. Dots cover no pixel.

    Raises:
        UserError: the image is a volume, or the file holds no outline.
    """
    shape = need_picture(like, "an ASAP annotation")
    found = [one for one in _objects(path) if one.get("Type", "").lower() not in _POINTS]
    if not found:
        raise UserError(
            f"{path}: expected outlines (Annotation elements with Coordinates); it holds none."
        )
    for one in found:
        corners = sorted(one.iter("Coordinate"), key=lambda corner: int(corner.get("Order", 0)))
        points = [(float(corner.attrib["X"]), float(corner.attrib["Y"])) for corner in corners]
        yield fill(_class_of(one), [np.array(points, float).reshape(-1, 2)], shape)


def _objects(path: Path) -> list[ElementTree.Element]:
    return list(read_xml(path).iter("Annotation"))


def _class_of(one: ElementTree.Element) -> str:
    group = one.get("PartOfGroup", _NO_GROUP)
    return "" if group == _NO_GROUP else group


def asap_xml(
    outlines: Iterable[Outline],
    names: Sequence[str],
    corner: tuple[float, float] = (0.0, 0.0),
    least_area: float = 0.0,
) -> str:
    """The objects of a mask as XML. Holes are left out, as the format has none.

    Args:
        outlines: the objects.
        names: names of the classes, the background first.
        corner: x and y of the mask's top left corner, to which coordinates are added.
        least_area: smaller objects, in pixels, are left out.
    """
    root = ElementTree.Element("ASAP_Annotations")
    annotations, count = ElementTree.SubElement(root, "Annotations"), 0
    used: dict[str, str] = {}
    for one in outlines:
        if one.area < least_area:
            continue
        name = names[one.value]
        colour = used.setdefault(name, "#{:02X}{:02X}{:02X}".format(*PALETTE[one.value]))
        about = {"Name": name, "Type": "Polygon", "PartOfGroup": name, "Color": colour}
        place = ElementTree.SubElement(
            ElementTree.SubElement(annotations, "Annotation", about), "Coordinates"
        )
        for order, (x, y) in enumerate(one.rings[0][:-1]):  # the last corner is the first again
            at = {"Order": f"{order}", "X": f"{x + corner[0]:g}", "Y": f"{y + corner[1]:g}"}
            ElementTree.SubElement(place, "Coordinate", at)
        count += 1
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for name, colour in used.items():
        about = {"Name": name, "PartOfGroup": _NO_GROUP, "Color": colour}
        ElementTree.SubElement(groups, "Group", about)
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=True)
