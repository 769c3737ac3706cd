"""Models on the Hugging Face hub: `hf://owner/name[@revision]`, by huggingface_hub.

Of a repository, only the file `model.safetensors` is downloaded, into the library's own cache. A
model that is there is used without a network. No message repeats what the library says of a request
that failed, because that may hold a signed address. Nothing here needs PyTorch.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import MODEL, read_header
from cdal.segmenters.trust import own_networks

MOST_BYTES = 2**31
"""Largest model that is downloaded."""

_SCHEME = "hf://"
_LOOKS = re.compile(r"hf:|https?://")
"""Beginning of names that are no paths. Python folds the two slashes of a path to one."""

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_NAME = re.compile(rf"({_PART})/({_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,199}}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FOLDER = "models--"
"""Beginning of a repository's folder in the cache: models--OWNER--NAME/snapshots/COMMIT."""


@dataclass(frozen=True)
class HubName:
    """The name of a model on the hub.

    Attributes:
        owner: user or organisation.
        name: name of the repository.
        revision: branch, tag or commit; empty for the branch `main`.
    """

    owner: str
    name: str
    revision: str = ""

    @property
    def repository(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    def __str__(self) -> str:
        return f"{_SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_hub_name(name: str | Path) -> bool:
    """Whether a model's name is meant for the hub, and is no path."""
    return bool(_LOOKS.match(str(name))) and not Path(name).exists()


def parse_name(name: str | Path) -> HubName:
    """The parts of `hf://owner/name[@revision]`.

    Raises:
        UserError: the name is another one.
    """
    text = str(name)
    for scheme in (_SCHEME, "hf:/"):
        if text.startswith(scheme):
            return _parts(text.removeprefix(scheme), text)
    raise UserError(
        f"a model on the hub is written {_SCHEME}OWNER/NAME or {_SCHEME}OWNER/NAME@REVISION; it is "
        f"{text:.200}."
    )


def parse_repository(text: str) -> HubName:
    """The parts of `owner/name`, where a model is sent.

    Raises:
        UserError: the text is another one.
    """
    found = _parts(text.removeprefix(_SCHEME), text)
    if found.revision:
        raise UserError(f"{text:.200}: give the revision by --revision {found.revision}.")
    return found


def _parts(words: str, text: str) -> HubName:
    match = _NAME.fullmatch(words)
    if match is None or any(bad in words for bad in ("--", "..", "//")):
        raise UserError(
            f"{text:.200}: expected OWNER/NAME or OWNER/NAME@REVISION of letters, digits and the "
            "signs . _ - as the hub has them."
        )
    return HubName(match[1], match[2], match[3] or "")


def fetch(name: str | Path, download: bool = True) -> Path:
    """The file of a model on the hub, in the cache of huggingface_hub.

    A commit that is in the cache needs no network. For a branch or a tag, the hub is asked for its
    commit; if it cannot be reached, the commit of the last time is taken.

    Args:
        name: `hf://owner/name[@revision]`.
        download: whether the hub may be asked; otherwise only the cache is.

    Raises:
        UserError: the name is none of the hub, the hub does not give the model, it is larger than
            `MOST_BYTES`, no cDAL model, or names code of its own; or the extra `hub` is not
            installed.
    """
    model = parse_name(name)
    library = _library()
    ours = not download or bool(_COMMIT.fullmatch(model.revision))
    path = _cached(library, model) if ours else None
    if path is None and download:
        path = _asked(library, model)
    if path is None:
        raise UserError(f"{model} has not been downloaded to this machine.")
    if named := own_networks(read_header(path).recipe):
        raise UserError(
            f"{model} names a network that is no part of cDAL, {', '.join(named)}, whose code "
            f"would run here. If you trust it, download the file yourself (hf download "
            f"{model.repository} {MODEL} --local-dir FOLDER), and give its path and "
            "--trust-own-network."
        )
    return path


def pinned(name: str | Path, path: Path) -> str:
    """The name of a model with the commit that was taken, for records.

    Args:
        name: name as the user gave it, of a model on the hub or elsewhere.
        path: the file that `fetch` gave for it.
    """
    if not is_hub_name(name):
        return str(name)
    return str(replace(parse_name(name), revision=path.parent.name))


def name_of(path: Path) -> str:
    """Name of the repository of a file in the cache; empty for a file elsewhere."""
    folders = [parent.name for parent in path.absolute().parents[1:3]]
    if len(folders) < 2 or folders[0] != "snapshots" or not folders[1].startswith(_FOLDER):
        return ""
    return folders[1].split("--", 2)[-1]


def connect() -> Any:
    """The interface of the hub, for uploads.

    Raises:
        UserError: the extra `hub` is not installed.
    """
    return _library().HfApi(endpoint=_endpoint())


def explained(error: Exception, what: str) -> UserError:
    """What the user can do about an error of huggingface_hub.

    Args:
        error: the error.
        what: what was asked for.
    """
    from huggingface_hub import errors

    kind, names = type(error).__name__, {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    told = f"{kind}, status {status}" if status else kind
    login = "Log in with: hf auth login (or set the environment variable HF_TOKEN)."
    if isinstance(error, errors.LocalEntryNotFoundError):
        reason = (
            "the hub cannot be reached, and it is not in the cache of this machine. Connect to the "
            "network once"
        )
    elif isinstance(error, errors.GatedRepoError):
        reason = f"its owner gives it only to who asked for it on its page. {login}"
    elif isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        reason = f"there is no such repository, or it is not open to you ({told}). {login}"
    elif isinstance(error, errors.RevisionNotFoundError):
        reason = "the repository has no such revision. See its page for branches, tags and commits"
    elif isinstance(error, errors.EntryNotFoundError):
        reason = f"the repository holds no {MODEL}, as cdal push writes it"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        reason = "the hub is not asked, because HF_HUB_OFFLINE is set. Unset it"
    elif isinstance(error, OSError) or "TransportError" in names:  # of httpx, whatever its version
        reason = (
            f"the hub cannot be reached ({kind}). Is there a network? A proxy is given by "
            "HTTPS_PROXY, another hub by HF_ENDPOINT"
        )
    else:
        reason = f"the hub does not answer as expected ({told}). Try again later"
    return UserError(f"{what}: {reason.removesuffix('.')}.")


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            'models of the hub need a further package: pip install "cdal[hub]"'
        ) from error
    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _cached(library: Any, model: HubName) -> Path | None:
    found = library.try_to_load_from_cache(model.repository, MODEL, revision=model.revision or None)
    return Path(found) if isinstance(found, str) else None


def _asked(library: Any, model: HubName) -> Path:
    """Ask the hub for a model; take it from the cache if the hub cannot be reached."""
    from huggingface_hub.errors import HfHubHTTPError

    revision, endpoint = model.revision or None, _endpoint()
    where = {"revision": revision, "endpoint": endpoint}
    try:
        try:
            address = library.hf_hub_url(model.repository, MODEL, **where)
            size = library.get_hf_file_metadata(address, endpoint=endpoint).size
        except HfHubHTTPError:
            raise
        except Exception:  # no network: the library behind raises its own errors
            local = library.hf_hub_download(
                model.repository, MODEL, revision=revision, local_files_only=True
            )
            return Path(local)
        _need_small(model, size)
        path = Path(library.hf_hub_download(model.repository, MODEL, **where))
    except UserError:
        raise
    except Exception as error:
        raise explained(error, str(model)) from None
    _need_small(model, path.stat().st_size)
    return path


def _need_small(model: HubName, size: int | None) -> None:
    if size is None or size > MOST_BYTES:
        told = "its size is not known" if size is None else f"it has {size:.3g} bytes"
        raise UserError(
            f"{model}: {told}; the most are {MOST_BYTES:.3g}. If it is right, download the file "
            "yourself and give its path."
        )
