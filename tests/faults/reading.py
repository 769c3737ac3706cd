"""What is in the files of an output: each is read by its own reader, and what it says is kept.

Of files that are promised byte for byte the bytes are kept; of others what does not depend on time.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

_TIMED = {
    *("seconds", "when", "peak_memory", "seconds_per_case", "samples_a_second", "share_of_turns"),
    *("share_of_batches", "cost", "minutes", "seconds_a_case"),
}
"""Names of values that a clock decides."""

MINE = "mine.txt"
"""Name of a file of another."""

_LOCKS = ("locks",)
"""Folders of lock files, which are empty."""

_BOARD = "events.out.tfevents."


def look(out: Path) -> tuple[dict[str, str], list[str]]:
    """What the files of an output say, by their paths; and which of them cannot be read.

    Temporary files, lock files and links are passed over.
    """
    said, broken = dict[str, str](), list[str]()
    for path in _files(out):
        name = path.relative_to(out).as_posix()
        try:
            if path.name.startswith(_BOARD):
                said[f"{path.parent.name}/"] = _board(path.parent)
            else:
                said[name] = _reader(path)(path)
        except Exception as error:  # whatever a reader raises, the file is not whole
            broken.append(f"{name} cannot be read: {type(error).__name__}: {error}")
    return said, broken


def temporaries(*folders: Path) -> list[str]:
    """Temporary files and folders below some folders."""
    return [str(path) for folder in folders for path in folder.rglob(".cdal-*")]


def _files(out: Path) -> Iterator[Path]:
    if out.is_file():
        yield out
    below = (Path(top) / name for top, _, names in os.walk(out, followlinks=True) for name in names)
    for path in sorted(below):
        parts = path.relative_to(out).parts
        hidden = any(part.startswith(".cdal-") or part in _LOCKS for part in parts)
        ours = path.name != MINE and not path.is_symlink() and path.is_file()
        if ours and not hidden and not path.name.endswith("lock"):
            yield path


def _reader(path: Path) -> Callable[[Path], str]:
    for key in (path.name, "".join(path.suffixes[-2:]), path.suffix):
        if key in READERS:
            return READERS[key]
    return _text


def _bytes(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n") or "</" in text[-20:], "it has no end"
    return _bytes(path)


def _timed_text(path: Path) -> str:
    """A page that tells times: it is read, and not compared."""
    return _text(path) and "a page"


def _picture(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
    return _bytes(path)


def _timed_picture(path: Path) -> str:
    return _picture(path) and "a picture"


def _volume(path: Path) -> str:
    import nibabel as nib

    return str(np.asarray(nib.load(path).dataobj).shape) and _bytes(path)


def _model(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            file.get_tensor(name)
    return _bytes(path)


def _onnx(path: Path) -> str:
    import onnx

    onnx.checker.check_model(onnx.load(path))
    return _bytes(path)


def _torch_archive(path: Path) -> str:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
    return _bytes(path)


def _checkpoint(path: Path) -> str:
    import torch

    digest = hashlib.sha256()
    for key, value in _leaves(torch.load(path, weights_only=True)):
        digest.update(key.encode())
        plain = value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode()
        digest.update(plain)
    return digest.hexdigest()


def _leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for name, value in content.items():
            if name not in _TIMED:
                yield from _leaves(value, f"{key}.{name}")
    elif isinstance(content, (list, tuple)):
        for number, value in enumerate(content):
            yield from _leaves(value, f"{key}.{number}")
    else:
        yield key, content


def _json(path: Path) -> str:
    return repr(list(_leaves(json.loads(path.read_text(encoding="utf-8")))))


def _lines(path: Path) -> str:
    """The rows of a log. Its last line may be half: readers skip it, the next call mends it."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return repr([json.loads(line) for line in lines if line.endswith("\n")])


def _table(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(None not in row.values() and None not in row for row in rows), "a row is half"
    return repr([{k: v for k, v in row.items() if k not in _TIMED} for row in rows])


def _board(folder: Path) -> str:
    """What TensorBoard shows of the event files of a folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # of steps that a kill has repeated
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return repr(
        {
            tag: sorted({(event.step, event.value) for event in board.Scalars(tag)})
            for tag in sorted(board.Tags()["scalars"])
        }
    )


READERS: dict[str, Callable[[Path], str]] = {
    **dict.fromkeys((".png", ".jpg", ".tif"), _picture),
    **dict.fromkeys(("boxes.png", "differences.png", "slopes.png"), _timed_picture),
    **dict.fromkeys(
        ("comparison.html", "comparison.md", "comparison.tex", "comparison.csv"), _timed_text
    ),
    ".nii.gz": _volume,
    ".safetensors": _model,
    ".onnx": _onnx,
    ".pt2": _torch_archive,
    ".npy": lambda path: str(np.load(path).shape) and _bytes(path),
    "checkpoint.pt": _checkpoint,
    "model.pt": _torch_archive,
    ".json": _json,
    ".geojson": _json,
    ".jsonl": _lines,
    ".csv": _table,
    ".bin": _bytes,
    ".xml": _bytes,
}
"""Readers by the name of a file, or by its suffix. Others are text."""
