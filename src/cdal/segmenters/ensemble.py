"""Several trained models in one model file, which vote together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from cdal.runtime.errors import UserError
from cdal.segmenters.find_models import find_models
from cdal.segmenters.model_file import load_segmenters, save_tensors, stored_weights
from cdal.segmenters.model_header import SUFFIX, join_headers, named_models, read_header


def ensemble(models: Sequence[Path | str], out: Path | str) -> Path:
    """Put several trained models into one model file, whose members vote together.

    The weights keep their bytes. The members of a model that is an ensemble itself are taken one
    by one.

    Args:
        models: `.safetensors` files, run folders, folders of cross-validations, names of shipped
            models.
        out: path of the file, ending in `.safetensors`.

    Returns:
        Path of the file.

    Raises:
        UserError: a model cannot be used, there are fewer than two, or two of them cannot vote
            together, because they segment other classes or see images differently.
    """
    out = Path(out)
    if out.suffix != SUFFIX:
        raise UserError(f"{out}: an ensemble is a {SUFFIX} file; the name must end so.")
    paths = [path for name in models for path in find_models(name)]
    for path in paths:
        if path.suffix != SUFFIX:
            raise UserError(
                f"{path}: only {SUFFIX} files can be put together. Give the one that this was "
                "exported from."
            )
    headers = [read_header(path) for path in paths]
    joined = join_headers(*named_models(headers, paths))
    tensors: dict[str, Tensor] = {}
    number = 0
    for path, header in zip(paths, headers, strict=True):
        # Building the networks checks the weights before anything is written.
        load_segmenters(path, header, [model.recipe for model in header.models])
        with safe_open(path, framework="pt") as file:
            for names in stored_weights(path, header):
                for inner, (name, _) in names.items():
                    tensors[f"{number}.{inner}"] = file.get_tensor(name)
                number += 1
    save_tensors(out, tensors, joined)
    return out
