"""NRRD and MetaImage, read and written with SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 (its own documentation's name)

from cdal.imaging.image import LPS, Image, invertible, need_size, result_suffix
from cdal.runtime.errors import UserError
from cdal.runtime.files import replacing


def read(path: Path, as_label: bool) -> Image:
    """Read a picture or a volume, with any number of channels."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    reader.ReadImageInformation()
    size = reader.GetSize()
    need_size(path, (*size, reader.GetNumberOfComponents()))
    size = tuple(s for i, s in enumerate(size) if i < 3 or s > 1)
    if len(size) not in (2, 3):
        raise UserError(
            f"{path}: expected a picture or a volume; it has {len(size)} axes (shape {size}). Give "
            "one of the series."
        )
    reader.SetExtractSize([s if i < 3 else 0 for i, s in enumerate(reader.GetSize())])
    image = reader.Execute()
    if "complex" in image.GetPixelIDTypeAsString():
        raise UserError(
            f"{path}: expected whole or floating-point numbers; it holds "
            f"{image.GetPixelIDTypeAsString()}."
        )
    stored = sitk.GetArrayViewFromImage(image)
    channels = np.moveaxis(stored, -1, 0) if stored.ndim > len(size) else stored[None]
    array = channels.astype(np.float32)
    if len(size) == 3:
        array = array.transpose(0, 3, 2, 1)
    suffix = path.suffix.lower()
    header = (image.GetOrigin(), image.GetSpacing(), image.GetDirection())
    return Image(
        array,
        _affine(path, header) if len(size) == 3 else None,
        result_suffix(suffix),
        header,
        stored.dtype,
    )


def write(path: Path, array: np.ndarray, like: Image, labels: bool) -> None:
    """Write `[*S]` or `[N, *S]`; N becomes the length of a vector at each voxel."""
    dims = len(like.shape)
    vector = array.ndim > dims
    if dims == 3:
        array = array.transpose(0, 3, 2, 1) if vector else array.transpose(2, 1, 0)
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(np.moveaxis(array, 0, -1) if vector else array), isVector=vector
    )
    if like.header is not None:
        origin, spacing, direction = like.header
        image.SetOrigin(origin)
        image.SetSpacing(spacing)
        image.SetDirection(direction)
    with replacing(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=True)


def _affine(path: Path, header: tuple[Any, Any, Any]) -> np.ndarray:
    origin, spacing, direction = header
    affine = np.eye(4)
    affine[:3, :3] = np.array(direction).reshape(3, 3) * np.array(spacing)
    affine[:3, 3] = origin
    if not invertible(affine):
        raise UserError(
            f"{path}: its axes cannot be inverted, so its voxels have no place in space: "
            f"{affine.tolist()}."
        )
    return np.asarray(LPS @ affine)
