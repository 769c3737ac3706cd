"""One picture of many cases with the outlines of their masks: what a person sees at a glance no check finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageDraw

from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.reading import read_case
from cdal.imaging.formats import read_image, read_label
from cdal.imaging.overlay import outlined
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

_SIDE = 224
_COLUMNS = 8
_MOST = 64
_CAPTION = 14


def write_contact_sheet(path: Path, folder: DataFolder, first: Sequence[str] = ()) -> Path:
    """Write a PNG of up to 64 cases: those named `first`, then others at even distances.

    Args:
        path: of the PNG.
        folder: with its classes.
        first: names of cases to show before any others.

    Raises:
        UserError: the file cannot be written.
    """
    wanted = [case for case in folder.cases if case.name in set(first)][:_MOST]
    others = [case for case in folder.cases if case.name not in set(first)]
    step = max(1, -(-len(others) // max(1, _MOST - len(wanted))))
    wanted += others[::step][: _MOST - len(wanted)]
    columns = min(_COLUMNS, max(1, len(wanted)))
    rows = -(-len(wanted) // columns)
    sheet = Pillow.new("RGB", (columns * _SIDE, max(1, rows) * (_SIDE + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, case in enumerate(wanted):
        x, y = (i % columns) * _SIDE, (i // columns) * (_SIDE + _CAPTION)
        draw.text((x + 2, y + 1), case.name[-36:], fill="black")
        picture = _thumbnail(case, folder)
        if picture is None:
            draw.text((x + 8, y + _SIDE // 2), "cannot be read", fill="red")
        else:
            sheet.paste(picture, (x + (_SIDE - picture.width) // 2, y + _CAPTION + (_SIDE - picture.height) // 2))
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def _thumbnail(case: CaseFiles, folder: DataFolder) -> Pillow.Image | None:
    try:
        if folder.classes:
            image, labels = read_case(case, folder)
            return outlined(image, labels[0].array[0], _SIDE - 6)
        image, label = read_image(case.image), read_label(case.labels[0].paths[0])  # no classes are known: what is not 0
        return outlined(image, label.array[0] > 0, _SIDE - 6) if label.shape == image.shape else None
    except UserError:
        return None
