"""A model as the network of a MONAI bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.imaging.formats import stem_of
from cdal.imaging.image import Image
from cdal.inference.ensemble_engine import EnsembleEngine
from cdal.inference.load import load
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.inference.torch_engine import TorchEngine
from cdal.runtime.errors import UserError
from cdal.segmenters.segmenter import Segmenter

Output = Literal["mask", "probability"]


class BundleNetwork(nn.Module):
    """A model whose input is an image as it is stored, and whose output is its segmentation.

    All that `cdal predict` does happens inside: the way to the network's grid and back,
    intensities, windows, votes, temperature and the choice of the mask. With the same file name,
    seed and device its mask is that of `cdal predict`, voxel by voxel.

    Args:
        path: `.safetensors` file.
        output: `mask`, with 1 for the class of each voxel and 0 for the others; or `probability`,
            the mean of the votes at the model's temperature.
        options: options of `Sampling`, such as `votes`.

    Attributes:
        models: the segmenter, or those of an ensemble's members.

    Raises:
        UserError: the file is no model, or an option is not possible for it.
    """

    def __init__(self, path: str | Path, output: Output = "mask", **options: Any) -> None:
        super().__init__()
        if output not in get_args(Output):
            raise UserError(f"output must be mask or probability; it is {output!r}.")
        try:
            sampling = Sampling(**options)
        except TypeError as error:
            raise UserError(f"the network of a bundle has no such option: {error}.") from error
        predictor = load(path, sampling, "cpu")
        if predictor.path is None or not isinstance(_engines(predictor)[0], TorchEngine):
            raise UserError(f"{path}: expected one .safetensors file.")
        self.output, self._predictor = output, predictor
        self.models = nn.ModuleList(engine.segmenter for engine in _engines(predictor))
        self.eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Segment a batch.

        The affine and the name of the file are taken from a tensor of MONAI (`affine`, `meta`). The
        axes of a picture are row and column. Floating-point numbers of a model that takes
        intensities by their range are from 0 to 255.

        Args:
            image: images as they are stored, `[B, C, *S]`.

        Returns:
            Mask or probability, `[B, K, *S]` float32.

        Raises:
            UserError: an image does not suit the model.
        """
        predictor = self._on_this_device()
        made = []
        for item in image:
            found = predictor.predict(self._image(item), case=_case_of(item))
            if self.output == "mask":
                mask = torch.from_numpy(found.mask.astype(np.int64))
                made.append(F.one_hot(mask, len(predictor.header.classes)).movedim(-1, 0))
            else:
                made.append(torch.from_numpy(np.ascontiguousarray(found.probability)))
        result = torch.stack(made).to(image.device, torch.float32)
        if not hasattr(image, "copy_meta_from"):
            return result
        with_meta: Any = type(image)(result)  # so that MONAI knows where the result lies
        with_meta.copy_meta_from(image)
        return with_meta

    def _on_this_device(self) -> Predictor:
        """The predictor, computed where the weights are now."""
        given = self._predictor
        engines = [
            TorchEngine(cast(Segmenter, model), engine.recipe)
            for model, engine in zip(self.models, _engines(given), strict=True)
        ]
        engine = engines[0] if len(engines) == 1 else EnsembleEngine(engines)
        return Predictor(engine, given.header, given.recipe, given.sampling, given.path)

    def _image(self, item: Tensor) -> Image:
        """One image of a batch, `[C, *S]`."""
        values = item.detach().cpu().numpy()
        stored = values.dtype
        if self._predictor.recipe.data.intensities == "range" and stored.kind == "f":
            stored = np.dtype(np.uint8)
        affine = getattr(item, "affine", None) if values.ndim == 4 else None
        return Image(
            np.asarray(values, np.float32),
            None if affine is None else np.asarray(affine.detach().cpu(), np.float64),
            stored=stored,
        )


def _engines(predictor: Predictor) -> list[Any]:
    engine = predictor.engine
    return list(engine.members) if isinstance(engine, EnsembleEngine) else [engine]


def _case_of(item: Tensor) -> str | None:
    """Name of the case, which decides the random draws; `None` if the tensor has no file."""
    name = (getattr(item, "meta", None) or {}).get("filename_or_obj")
    return stem_of(Path(name)) if isinstance(name, (str, os.PathLike)) else None
