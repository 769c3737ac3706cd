"""PNG, JPEG and BMP pictures, read and written with Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from cdal.imaging.image import Image, need_size, result_suffix
from cdal.imaging.palette import PALETTE
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}


def read(path: Path, as_label: bool) -> Image:
    """Read a picture. Palette indices are kept for labels and resolved to colours for images."""
    with warnings.catch_warnings():
        # `need_size` below has its own limit.
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        limit, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
        try:
            with Pillow.open(path, formats=sorted(set(_FORMATS.values()))) as file:
                if getattr(file, "n_frames", 1) > 1:
                    raise UserError(
                        f"{path}: expected one picture; it holds {file.n_frames}. Save one, or a "
                        "multi-page TIFF."
                    )
                need_size(path, (file.height, file.width, len(file.getbands())))
                resolved = file.mode in ("P", "PA") and not as_label
                to_rgb = file.mode in ("CMYK", "YCbCr", "LAB", "HSV")
                alpha = file.mode in ("LA", "PA", "RGBA") and not resolved
                # Viewers apply the EXIF orientation, so masks are drawn on the upright picture.
                upright = ImageOps.exif_transpose(file)
                array = np.asarray(upright.convert("RGB") if resolved or to_rgb else upright)
        finally:
            Pillow.MAX_IMAGE_PIXELS = limit
    if (
        array.ndim == 3
        and not resolved
        and path.suffix.lower() == ".png"
        and (content := path.read_bytes())[24:25] == b"\x10"
    ):
        # Imported here because it is large and needed for 16 bit colours only.
        import imagecodecs

        # Pillow would keep only 8 of the 16 bits per colour.
        array = imagecodecs.png_decode(content)
    stored = array.dtype
    array = array[..., :-1] if alpha else array
    array = array[..., :1] if resolved and (array == array[..., :1]).all() else array
    return Image(channels_first(array), None, result_suffix(path.suffix.lower()), None, stored)


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
    with replacing(path) as temporary:
        picture.save(temporary, format=_FORMATS[path.suffix.lower()])


def channels_first(array: np.ndarray) -> np.ndarray:
    """Convert `[H, W]` or `[..., C]` to `[C, ...]` float32."""
    return (array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)).astype(np.float32)
