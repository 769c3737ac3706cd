"""A contact sheet for visual inspection of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image as Pillow
from PIL import ImageDraw

from cdal.datasets.drawing import read_drawing
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.reading import read_case, read_image_of
from cdal.imaging.overlay import outlined
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

_SIDE = 224
_COLUMNS = 8
_MOST = 64
_CAPTION = 14


def need_png(path: Path) -> None:
    """Refuse a path for a contact sheet that is not called as its format.

    Raises:
        UserError: the path does not end in `.png`.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: expected a path that ends in .png, for the contact sheet.")


def write_contact_sheet(path: Path, folder: DataFolder, first: Sequence[str] = ()) -> Path:
    """Write a PNG with up to 64 cases and the outlines of their masks.

    The cases in `first` come first; the others are chosen at equal distances.

    Args:
        path: path of the PNG.
        folder: data folder with its classes.
        first: names of the cases to show first.

    Returns:
        The path of the PNG.

    Raises:
        UserError: as `need_png`, or the file cannot be written.
    """
    need_png(path)
    wanted = [case for case in folder.cases if case.name in set(first)][:_MOST]
    remaining = [case for case in folder.cases if case.name not in set(first)]
    step = max(1, -(-len(remaining) // max(1, _MOST - len(wanted))))
    wanted += remaining[::step][: _MOST - len(wanted)]
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
            sheet.paste(
                picture,
                (x + (_SIDE - picture.width) // 2, y + _CAPTION + (_SIDE - picture.height) // 2),
            )
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def _thumbnail(case: CaseFiles, folder: DataFolder) -> Pillow.Image | None:
    try:
        if folder.classes:
            image, labels = read_case(case, folder)
            return outlined(image, labels[0].array[0], _SIDE - 6)
        # The classes are unknown, so outline all values other than 0.
        image, (name, path) = read_image_of(case), case.labels[0].files[0]
        label = read_drawing(path, name, {}, image, case.image.name).label
        return (
            outlined(image, label.array[0] > 0, _SIDE - 6) if label.shape == image.shape else None
        )
    except UserError:
        return None
