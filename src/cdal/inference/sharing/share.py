"""Writing a model in a form for others."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from cdal.inference.sharing.card import open_shared
from cdal.runtime.errors import UserError

Form = Literal["bundle", "bioimage", "hub"]
"""MONAI bundle, model of bioimage.io, files of a repository of the Hugging Face hub."""


def share(
    model: Path | str, to: Form, out: Path | str | None = None, example: Path | str | None = None
) -> Path:
    """Write a model as a folder that others' programs read.

    Args:
        model: a `.safetensors` file, a run folder, the name of a shipped model, or one of the hub.
        to: `bundle`, `bioimage` or `hub`.
        out: where the folder `NAME-bundle`, `NAME-bioimage` or `NAME-hub` is made; the current
            folder if `None`. Files of an earlier export are replaced.
        example: image for the test tensors of bioimage.io.

    Returns:
        The folder.

    Raises:
        UserError: the model does not exist, it cannot have this form, an extra is not installed, or
            the folder cannot be written.
    """
    if to not in get_args(Form):
        raise UserError(f"expected one of {', '.join(get_args(Form))}; it is {to!r}.")
    if example is not None and to != "bioimage":
        raise UserError("an example belongs to --to bioimage only, whose test tensors it becomes.")
    shared = open_shared(model)
    folder = Path(out or ".") / f"{shared.name}-{to}"
    if to == "bundle":
        from cdal.inference.sharing.bundle import write_bundle

        write_bundle(shared, folder)
    elif to == "bioimage":
        from cdal.inference.sharing.bioimage import write_bioimage

        write_bioimage(shared, folder, example)
    else:
        from cdal.inference.sharing.hub import write_hub

        write_hub(shared, folder)
    return folder
