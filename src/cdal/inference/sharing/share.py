"""Writing a model in a form for others."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from cdal.inference.sharing.card import Shared, open_shared
from cdal.runtime.errors import UserError
from cdal.runtime.files import digest_of, scratch_folder, write_text
from cdal.runtime.os_errors import told_as

Form = Literal["bundle", "bioimage", "hub"]
"""MONAI bundle, model of bioimage.io, files of a repository of the Hugging Face hub."""


def share(
    model: Path | str | Shared,
    to: Form,
    out: Path | str | None = None,
    example: Path | str | None = None,
) -> Path:
    """Write a model as a folder that others' programs read.

    Args:
        model: a `.safetensors` file, a run folder, the name of a shipped model, or one of the hub;
            or what `open_shared` gave for it.
        to: `bundle`, `bioimage` or `hub`.
        out: where the folder `NAME-bundle`, `NAME-bioimage` or `NAME-hub` is made; the current
            folder if `None`. It appears whole or not at all. An earlier export in its place is
            replaced, if nothing in it was changed or added.
        example: image for the test tensors of bioimage.io.

    Returns:
        The folder.

    Raises:
        UserError: the model does not exist, it cannot have this form, an extra is not installed,
            the folder holds something that no export wrote, or it cannot be written.
    """
    if to not in get_args(Form):
        raise UserError(f"expected one of {', '.join(get_args(Form))}; it is {to!r}.")
    if example is not None and to != "bioimage":
        raise UserError("an example belongs to --to bioimage only, whose test tensors it becomes.")
    shared = model if isinstance(model, Shared) else open_shared(model)
    folder = Path(out or ".") / f"{shared.name}-{to}"
    _need_free(folder, to)
    with scratch_folder(folder.parent) as scratch:
        made = scratch / folder.name
        with told_as(made, folder):
            _write(shared, to, made, example)
            card = made / _CARD[to]
            text = card.read_text(encoding="utf-8")
            write_text(card, text + _mark(made, card, text))
        earlier = scratch / "earlier"
        try:
            if folder.exists():
                folder.rename(earlier)
            made.rename(folder)
        except OSError as error:
            if earlier.exists():
                with suppress(OSError):
                    earlier.rename(folder)
            raise UserError(
                f"{folder} cannot be written: {error.strerror or error}. Give another --out."
            ) from error
    return folder


_CARD: dict[Form, str] = {
    "bundle": "docs/README.md",
    "bioimage": "README.md",
    "hub": "README.md",
}
"""The card of each form. Its last line is the mark of the export."""


def _write(shared: Shared, to: Form, folder: Path, example: Path | str | None) -> None:
    if to == "bundle":
        from cdal.inference.sharing.bundle import write_bundle

        write_bundle(shared, folder)
    elif to == "bioimage":
        from cdal.inference.sharing.bioimage import write_bioimage

        write_bioimage(shared, folder, example)
    else:
        from cdal.inference.sharing.hub import write_hub

        write_hub(shared, folder)


def _mark(folder: Path, card: Path, text: str) -> str:
    """A line that tells an export as it was written: a checksum of all its files.

    Args:
        folder: folder of the export.
        card: its card.
        text: text of the card without this line.
    """
    digest = hashlib.sha256(text.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != card:
            digest.update(f"{path.relative_to(folder).as_posix()} {digest_of(path)}\n".encode())
    return f"\n<!-- cdal export {digest.hexdigest()} -->\n"


def _need_free(folder: Path, to: Form) -> None:
    """Refuse to replace what no export wrote.

    Raises:
        UserError: at this path is something else than an export of this form as it was written,
            or an empty folder.
    """
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        card = folder / _CARD[to]
        text, line, mark = card.read_text(encoding="utf-8").rpartition("\n<!-- cdal export ")
        if line + mark == _mark(folder, card, text):
            return
    except (OSError, ValueError):  # not a folder, or without a card
        pass
    raise UserError(
        f"{folder} is there, and it is not, or no longer, as an export wrote it; it is kept. "
        "Expected a folder that is missing, empty, or an earlier export in which nothing was "
        "changed or added. Move it away, or give another --out."
    )
