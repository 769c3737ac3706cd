"""Whether an image suits a model: its axes and its size."""

from __future__ import annotations

from cdal.imaging.image import Image
from cdal.imaging.rows import Rows
from cdal.inference.segmented import need_whole
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import ModelHeader


def need_suitable(image: Rows, header: ModelHeader, data: DataSettings, name: str) -> None:
    """Require that a model can segment an image as it was trained.

    Pictures have rows and columns; volumes with a place in space have the axes of the body. Neither
    can be had from the other: a slice has rows and columns, but nobody knows which way up.

    Args:
        image: the image.
        header: header of the model.
        data: settings of the recipe, with the options of sampling.
        name: name of the image, for messages.

    Raises:
        UserError: the image has other axes, or is too large for the requested options.
    """
    shape = image.shape
    if len(shape) < data.spatial_dims:
        raise UserError(
            f"{name}: expected a volume of {data.spatial_dims} axes; it is a picture of shape "
            f"{shape}."
        )
    if data.spatial_dims == 2:
        _need_axes(image, header, data, name)
    if data.resize is not None and not isinstance(image, Image):
        need_whole(name, shape, "models that see a picture whole", "Give a smaller picture.")
    if data.components:
        need_whole(name, shape, "the largest components", "Keep all components: --components 0.")


def _need_axes(image: Rows, header: ModelHeader, data: DataSettings, name: str) -> None:
    """Require a picture, or a volume, if a network of two axes was trained on such images."""
    shape = image.shape
    if len(shape) == 2:
        if data.neighbours or header.in_space:
            raise UserError(
                f"{name}: expected a volume, of which this model sees slices; it is a picture of "
                f"shape {shape}. Give the volume that it is a slice of."
            )
        return
    turned = header.in_space is False and image.like.affine is not None
    if data.resize is not None or turned:
        why = "whose axes are rows and columns" if turned else "which this model sees whole"
        slices = "its slice" if 1 in shape else "a slice"
        raise UserError(
            f"{name}: expected a picture, {why}; it is a volume of shape {shape}. Save {slices} as "
            "a picture, such as PNG, the right way up."
        )
