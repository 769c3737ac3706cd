"""PNG, JPEG and BMP pictures, read and written with Pillow."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from cdal.imaging.image import Image, need_size, result_suffix
from cdal.imaging.palette import PALETTE, label_of_palette
from cdal.runtime.errors import UserError
from cdal.runtime.files import encoded

_ORIENTATION = 0x0112
_MOST_PIXELS_A_BYTE = 10_000
"""More pixels than a byte of PNG, JPEG or BMP can hold (8 pixels of 1 bit, 1032 times smaller)."""

_LEVEL = 4
"""Level of the compression of PNG: half the time of Pillow's own, 6, and files 3 % larger."""

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}


def read(path: Path, as_label: bool) -> Image:
    """Read a picture; the first, if the others are previews (MPO).

    Palettes are resolved to colours; for labels as `label_of_palette` decides.
    """
    limit, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None  # `need_size` has its own
    try:
        with Pillow.open(path, formats=sorted(set(_FORMATS.values()))) as file:
            if getattr(file, "n_frames", 1) > 1 and file.format != "MPO":
                raise UserError(
                    f"{path}: expected one picture; it holds {file.n_frames}. Save one, or a "
                    "multi-page TIFF."
                )
            channels = len(file.getbands())
            # Pillow holds the picture twice while it is turned, with four bytes for three colours.
            need_size(path, (file.height, file.width, channels), 12)
            _need_content(path, file)
            image = _label(file) if as_label else _colours(file)
    finally:
        Pillow.MAX_IMAGE_PIXELS = limit
    return replace(image, suffix=result_suffix(path.suffix.lower()))


def _need_content(path: Path, file: Any) -> None:
    """Refuse a file that is too small for its size in pixels.

    Raises:
        UserError: no compression stores so many pixels in so few bytes.
    """
    held, pixels = path.stat().st_size, file.width * file.height
    if pixels > _MOST_PIXELS_A_BYTE * held:
        raise UserError(
            f"{path}: its header promises {file.width} x {file.height} pixels; the file has {held} "
            "bytes. Is it complete?"
        )


def _colours(file: Any) -> Image:
    """Read gray values or colours, `[C, H, W]`."""
    to_rgb = file.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
    array = _upright(file, "RGB" if to_rgb else None)
    stored = array.dtype
    array = array[..., :-1] if file.mode in ("LA", "RGBA", "RGBa", "La") else array
    if file.mode in ("P", "PA") and (array == array[..., :1]).all():
        array = array[..., :1]
    return Image(channels_first(array), stored=stored)


def _label(file: Any) -> Image:
    """Read the numbers of a label, or its colours, `[C, H, W]`."""
    array = _upright(file, "RGB" if file.mode in ("CMYK", "YCbCr", "LAB", "HSV") else None)
    stored = array.dtype
    palette: dict[int, int] = {}
    doubts: tuple[str, ...] = ()
    if file.mode in ("P", "PA"):
        indices = array[..., 0] if array.ndim == 3 else array
        colours = np.array(file.getpalette("RGB"), np.uint8).reshape(-1, 3)
        alpha = array[..., 1] if array.ndim == 3 else _alpha_of(file, len(colours))[indices]
        array = visible(np.dstack([colours[indices], alpha]))
        if array.shape[-1] == 3:
            colours = np.where(_hidden(indices, alpha, len(colours))[:, None], 0, colours)
            array, palette, doubts = label_of_palette(indices, colours.astype(np.uint8))
    elif file.mode in ("LA", "RGBA", "RGBa", "La"):
        array = visible(array)
    return Image(channels_first(array), stored=stored, palette=palette, doubts=doubts)


def _alpha_of(file: Any, count: int) -> np.ndarray:
    """Return the alpha of each entry of a palette, `[count]` uint8."""
    alpha = np.full(count, 255, np.uint8)
    transparent = file.info.get("transparency", b"")
    if isinstance(transparent, int):
        alpha[transparent : transparent + 1] = 0
    else:
        given = np.frombuffer(transparent, np.uint8)[:count]
        alpha[: len(given)] = given
    return alpha


def _hidden(indices: np.ndarray, alpha: np.ndarray, count: int) -> np.ndarray:
    """Whether each entry of a palette is transparent where it is used, `[count]`.

    Only if others are visible: a picture that is transparent as a whole hides nothing.
    """
    hidden = np.zeros(count, bool)
    if (alpha > 0).any():
        hidden[np.unique(indices[alpha == 0])] = True
    return hidden


def _upright(file: Any, mode: str | None = None) -> np.ndarray:
    """Return the pixels as viewers show them: masks are drawn on the picture turned by its EXIF."""
    upright = ImageOps.exif_transpose(file)
    if mode is None and file.format == "PNG" and len(file.getbands()) > 1:
        with Path(file.filename).open("rb") as stream:
            wide = stream.read(25)[24:] == b"\x10"
        if wide:
            return _with_16_bits(Path(file.filename), file.getexif().get(_ORIENTATION, 1))
    return np.asarray(upright.convert(mode) if mode else upright)


def _with_16_bits(path: Path, orientation: int) -> np.ndarray:
    """Read colours of 16 bits, of which Pillow would keep only 8."""
    # Imported here because it is large and needed for 16 bit colours only.
    import imagecodecs

    # libpng would print what it thinks of the file: it gets the pixels only, and if they are whole.
    content, place, kept, packed = path.read_bytes(), 8, b"\x89PNG\r\n\x1a\n", b""
    while place < len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        name = content[place + 4 : place + 8]
        if name in (b"IHDR", b"IDAT", b"IEND"):
            kept += content[place:end]
        packed += content[place + 8 : end - 4] if name == b"IDAT" else b""
        place = end
    inflate = zlib.decompressobj()
    while not inflate.eof:
        if not inflate.decompress(packed, 2**20) and not inflate.eof:
            raise ValueError("its pixels end early")
        packed = inflate.unconsumed_tail
    return turned(np.asarray(imagecodecs.png_decode(kept)), orientation)


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a stored picture `[H, W, ...]` upright, by its tag for the orientation (1 to 8)."""
    array = array.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else array
    array = array[::-1] if orientation in (3, 4, 7, 8) else array
    return array[:, ::-1] if orientation in (2, 3, 6, 7) else array


def visible(array: np.ndarray) -> np.ndarray:
    """Return the label that a drawing with an alpha channel shows.

    Transparent pixels are background whatever their hidden colour. If all that is drawn is black,
    or the picture has only one colour, the alpha channel itself is the mask.

    Args:
        array: gray values or colours with alpha, `[H, W, 2]` or `[H, W, 4]`.

    Returns:
        `[H, W, 1]` or `[H, W, 3]`.
    """
    colours, alpha = array[..., :-1], array[..., -1:]
    one_colour = (colours == colours[:1, :1]).all()
    if (alpha == alpha[:1, :1]).all():
        return alpha if one_colour and not alpha.any() else colours
    if one_colour or not colours[alpha[..., 0] > 0].any():
        return alpha
    return np.where(alpha > 0, colours, 0).astype(array.dtype)


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write labels with a palette of distinct colours, or values with 16 bits.

    N pictures are stacked vertically.
    """
    array = array.reshape(-1, array.shape[-1])
    if labels and array.dtype == np.uint8:
        picture = Pillow.fromarray(array)
        picture.putpalette(PALETTE.tobytes())
    else:
        picture = Pillow.fromarray(array)
    form = _FORMATS[path.suffix.lower()]
    with encoded(path) as buffer:
        picture.save(buffer, form, **({"compress_level": _LEVEL} if form == "PNG" else {}))


def channels_first(array: np.ndarray) -> np.ndarray:
    """Convert `[H, W]` or `[..., C]` to `[C, ...]` float32."""
    return (array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)).astype(np.float32)
