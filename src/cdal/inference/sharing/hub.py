"""A model for the Hugging Face hub: `model.safetensors` and its card."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cdal.inference.sharing.card import (
    Shared,
    model_card,
    named_cases,
    needs_code,
    open_shared,
    trusting,
)
from cdal.runtime.errors import UserError
from cdal.runtime.files import scratch_folder, write_bytes, write_text
from cdal.segmenters.hub import (
    HubName,
    connect,
    explained,
    parse_name,
    parse_repository,
)
from cdal.segmenters.model_header import MODEL

_USE = """    pip install "cdal[hub]"
    cdal predict hf://{repository} IMAGE --out results

or in Python:

    import cdal
    prediction = cdal.load("hf://{repository}").predict("IMAGE")

Only `{file}` is downloaded, and no code is run from it."""

_USE_OWN = """    pip install "cdal[hub]"
    hf download {repository} {file} --local-dir model
    cdal predict model/{file} IMAGE --out results --trust-own-network

or in Python:

    import cdal
{trusting}    prediction = cdal.load("model/{file}").predict("IMAGE")

{needs} The name `hf://{repository}` is refused, because no code is run that came from there."""


@dataclass(frozen=True)
class Pushed:
    """What `push` has sent, or would send.

    Attributes:
        name: `hf://owner/name`, with its commit if it was sent.
        files: size in bytes of each file.
        card: the model card.
        cases: number of cases that the model's header names.
        networks: classes outside cDAL that the model names. If there are some, `name` is refused
            where a model can be given; the card says how the model is used.
    """

    name: str
    files: dict[str, int]
    card: str
    cases: int
    networks: list[str]


def write_hub(shared: Shared, folder: Path, repository: str = "") -> list[Path]:
    """Write the files of a repository of the hub.

    Args:
        shared: the model.
        folder: folder for the files.
        repository: `owner/name`, for the card; a place for it if empty.

    Returns:
        The files.
    """
    write_bytes(folder / MODEL, shared.path.read_bytes())
    use = (_USE_OWN if shared.networks else _USE).format(
        repository=repository or f"OWNER/{shared.name}",
        file=MODEL,
        trusting=trusting(shared.networks),
        needs=needs_code(shared.networks),
    )
    write_text(folder / "README.md", model_card(shared, use))
    return [folder / MODEL, folder / "README.md"]


def push(
    model: Path | str,
    repository: str,
    revision: str | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> Pushed:
    """Send a model to the hub, into a repository that is made if it is not there.

    The token is that of `hf auth login` or of the environment variable HF_TOKEN. It is neither
    printed nor stored here.

    Args:
        model: as for `open_shared`.
        repository: `owner/name`.
        revision: branch to write, made if it is not there; `main` if `None`.
        private: whether a new repository is private.
        dry_run: whether nothing is sent.

    Raises:
        UserError: the model does not exist, the name is none of a repository, the extra `hub` is
            not installed, or the hub refuses.
    """
    target = parse_repository(repository)
    if revision is not None:
        target = parse_name(f"{target}@{revision}")
    shared = open_shared(model)
    with scratch_folder(Path(tempfile.gettempdir())) as scratch:
        files = write_hub(shared, scratch, target.repository)
        sizes = {path.name: path.stat().st_size for path in files}
        card = files[1].read_text(encoding="utf-8")
        if not dry_run:
            commit = _send(files, target, private, shared.name)
            target = HubName(target.owner, target.name, commit)
    return Pushed(str(target), sizes, card, named_cases(shared.header), shared.networks)


def _send(files: list[Path], target: HubName, private: bool, name: str) -> str:
    """Upload the files in one commit, and return that commit."""
    api = connect()
    from huggingface_hub import CommitOperationAdd

    branch = target.revision or None
    try:
        api.create_repo(target.repository, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(target.repository, branch=branch, exist_ok=True)
        done = api.create_commit(
            target.repository,
            [CommitOperationAdd(path.name, path) for path in files],
            commit_message=f"{name}, written by cdal push",
            revision=branch,
        )
    except UserError:
        raise
    except Exception as error:  # the library and what is behind it have many kinds
        raise explained(error, f"the model cannot be sent to {target}") from None
    return str(done.oid)
