"""Judging a segmentation: its estimated quality, and whether its image suits the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cdal.imaging.grid import Frame
from cdal.imaging.image import Image
from cdal.imaging.rows import LARGE
from cdal.inference.likeness import TrainingImages, doubts, sizes
from cdal.inference.quality import Quality, estimate
from cdal.inference.sampling import Sampling
from cdal.inference.signs import Signs
from cdal.inference.windows import Read
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import ModelHeader

_NO_INTERVAL = dict.fromkeys(("dice_interval", "hd95_interval", "volume_interval"))
_BANDS, _ROWS = 8, 32
"""Bands of a large image that are looked at, and the rows of each."""


class Judge:
    """What a model file knows of its own quality, ready to judge segmentations.

    Args:
        header: header of the model file.
        data: settings of the recipe.
        sampling: how the model is sampled, see `cdal.inference.quality.sampled`.
        options: options of judging.
        path: path of the model file, for messages.

    Attributes:
        quality: what was fitted; `None` if nothing was, or if it was for another sampling.
        seen: what the training images were; `None` if that is not known.
        missing: why there is no fitted quality; empty if there is one.

    Raises:
        UserError: the header's values are no such things; or `strict` is requested, and the header
            does not say what the training images were.
    """

    def __init__(
        self,
        header: ModelHeader,
        data: DataSettings,
        sampling: Mapping[str, Any],
        options: Sampling,
        path: Path | None,
    ) -> None:
        self.classes, self.data, self.options = header.classes, data, options
        try:
            fitted = Quality.of(header.quality) if header.quality else None
            self.seen = (
                TrainingImages.of(header.training_images) if header.training_images else None
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{path or 'the model'}: what its header says of its quality cannot be read "
                f"({error!r:.80}). Fit it again: cdal calibrate."
            ) from error
        if options.strict and self.seen is None:
            raise UserError(
                f"{path or 'the model'}: it does not say what its training images were, so "
                "--strict cannot compare with them. Omit it; or run cdal calibrate, with the data "
                "folder of the training."
            )
        self.missing = _missing(fitted, sampling)
        self.quality = None if self.missing else fitted

    def see(self, signs: Signs, read: Read, frame: Frame, name: str) -> None:
        """Compare an image with the training images.

        Args:
            signs: receives what is unlike.
            read: reader of normalised rows on the network's grid.
            frame: frame of the image.
            name: name of the image.

        Raises:
            UserError: the image is unlike the training images, and `strict` was requested.
        """
        if self.seen is None:
            return
        length, rest = frame.shape[0], math.prod(frame.shape[1:])
        if length * rest <= LARGE:
            starts, rows = [0], length
        else:
            rows = min(_ROWS, length)
            starts = [i * (length - rows) // (_BANDS - 1) for i in range(_BANDS)]
        sample = np.concatenate([read(start, start + rows) for start in starts], axis=1)
        # The training images were described on the network's axes, too: see `to_grid`.
        axis = 0 if frame.planar or self.data.spatial_dims == 3 else self.data.slice_axis
        lengths = sizes(frame.image.shape, frame.image.like.affine)
        signs.doubts = doubts(self.seen, np.moveaxis(sample, 1, 1 + axis), *lengths, self.data)
        if signs.doubts and self.options.strict:
            raise UserError(
                f"{name}: it is unlike the images that the model was trained on: "
                f"{'; '.join(signs.doubts)}. Omit --strict to segment it nevertheless."
            )

    def verdict(self, signs: Signs, like: Image) -> dict[str, Any]:
        """The judgement of one segmentation, for records.

        Args:
            signs: signs of the segmentation.
            like: image whose geometry is used.

        Returns:
            `quality` by class, see `cdal.inference.quality.estimate`, without intervals if the
            image is unlike the training images; `outside` and `warnings`, if
            it is known what the training images were; `verdict`, `accept` or `review`, if a limit
            was given. A case outside is always for review.
        """
        voxel, in_mm = float(np.prod(like.spacing)), like.affine is not None
        quality = estimate(signs, self.classes, voxel, self.quality, in_mm)
        if signs.doubts:  # the intervals hold for images like those of the training
            quality = {name: {**of_class, **_NO_INTERVAL} for name, of_class in quality.items()}
        judged: dict[str, Any] = {"quality": quality}
        if self.seen is not None:
            judged |= {"outside": bool(signs.doubts), "warnings": list(signs.doubts)}
        if self.options.review_below is not None:
            lowest = min(of_class["expected_dice"] for of_class in quality.values())
            doubtful = lowest < self.options.review_below or bool(signs.doubts)
            judged["verdict"] = "review" if doubtful else "accept"
        return judged


def _missing(fitted: Quality | None, sampling: Mapping[str, Any]) -> str:
    if fitted is None:
        return "the model file has no fitted quality; fit it with cdal calibrate"
    changed = [name for name, value in fitted.sampling.items() if sampling.get(name) != value]
    if not changed:
        return ""
    # Without advice: whoever asks for other votes has chosen, and the model's own need no option.
    name = changed[0]
    if name == "flips" and bool(fitted.sampling[name]) != bool(sampling.get(name)):
        return f"it was fitted {'with' if fitted.sampling[name] else 'without'} mirror images"
    return f"it was fitted with {name} {fitted.sampling[name]}, and not {sampling.get(name)}"
