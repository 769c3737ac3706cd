"""nnU-Net's raw data and the Medical Segmentation Decathlon: `imagesTr` and `labelsTr`.

    imagesTr/NAME_0000.ext    one file per channel (nnU-Net); NAME.ext (Decathlon)
    labelsTr/NAME.ext         a label image
    dataset.json              nnU-Net's form 2 has `channel_names`, `labels` and `file_ending`; form
                              1 and the Decathlon have `modality` and `labels`

`imagesTs` and `labelsTs` are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdal.datasets.layout import Listing
from cdal.datasets.layouts.files import (
    by_stem,
    entries,
    image_stem,
    label_stem,
    readable_files,
    subfolders,
)
from cdal.datasets.layouts.pairs import (
    annotations_of,
    by_channel,
    grouped_channels,
    joined,
    paired,
)
from cdal.datasets.tables import declared_channels, read_json
from cdal.imaging.channels import CHANNEL
from cdal.runtime.errors import UserError, first_few
from cdal.runtime.text import composed

StemOf = Callable[[Path], str | None]
"""Returns the name of a file without its end; `None` for files that are not meant."""

_TEST = ("imagests", "labelsts")


def nnunet_readings(root: Path) -> list[str]:
    """Return `imagesTr/ and labelsTr/` if they are nnU-Net's."""
    return [_words(pair) for pair in _folders(root) if _is_nnunet(root, *pair)]


def decathlon_readings(root: Path) -> list[str]:
    """Return `imagesTr/ and labelsTr/` if they are the Decathlon's."""
    return [_words(pair) for pair in _folders(root) if not _is_nnunet(root, *pair)]


def list_cases(root: Path) -> Listing:
    """List the cases that train; those of `imagesTs` are passed over."""
    problems: list[str] = []
    ((images_folder, labels_folder),) = _folders(root)
    by_file = _is_nnunet(root, images_folder, labels_folder)
    declared = read_json(root / "dataset.json")
    stem, label = _stems(declared.get("file_ending"), root)
    label_files = by_stem(labels_folder, problems, label)
    files = by_stem(images_folder, problems, stem, series=True)
    images = (
        by_channel(files, problems)
        if by_file
        else grouped_channels(files, set(label_files), problems)
    )
    labels, unmatched = annotations_of(label_files, set(images), problems)
    listing = paired(
        images, joined(labels, problems), unmatched, images_folder, labels_folder, problems
    )
    channels = declared_channels(declared, root / "dataset.json")
    # A single file may hold all channels, as pictures in colours do.
    wrong = [case for case in listing.cases if len(case.images) not in (1, channels)]
    if channels is not None and wrong and by_file:
        message = (
            f"{root / 'dataset.json'}: expected {channels} channel(s), as it declares; "
            f"{wrong[0].name} has {len(wrong[0].images)} files. Correct the declaration, or the "
            "files."
        )
        listing = replace(listing, problems=(*listing.problems, message))
    return replace(listing, passed_over=tuple(_passed_over(root, stem)))


def _folders(root: Path) -> list[tuple[Path, Path]]:
    """Return the folders of images and of labels; capital letters do not matter."""
    found = subfolders(root)
    return [
        (images, labels)
        for images in found.get("imagestr", ())
        for labels in found.get("labelstr", ())
    ]


def _words(pair: tuple[Path, Path]) -> str:
    return " and ".join(f"{folder.name}/" for folder in pair)


def _is_nnunet(root: Path, images_folder: Path, labels_folder: Path) -> bool:
    """Whether each channel has a file of its own, by the declaration or by the files' names."""
    declared = read_json(root / "dataset.json")
    if "channel_names" in declared or "file_ending" in declared:
        return True
    stems = [composed(image_stem(path) or "") for path in readable_files(images_folder)]
    matches = [CHANNEL.match(stem) for stem in stems]
    labelled = {composed(label_stem(path) or "") for path in readable_files(labels_folder)}
    return bool(stems) and all(
        match is not None and match["name"] in labelled and stem not in labelled
        for stem, match in zip(stems, matches, strict=True)
    )


def _stems(ending: Any, root: Path) -> tuple[StemOf, StemOf]:
    """Return functions that give the names of images and labels without the declared ending."""
    if ending is None:
        return image_stem, label_stem
    if not isinstance(ending, str) or not ending.startswith("."):
        raise UserError(
            f'{root / "dataset.json"}: expected "file_ending": ".nii.gz" or another suffix; it '
            f"holds {ending!r}."
        )

    def stem(path: Path) -> str | None:
        return path.name[: -len(ending)] if path.name.lower().endswith(ending.lower()) else None

    return stem, stem


def _passed_over(root: Path, stem: StemOf) -> list[str]:
    found = subfolders(root)
    test = [folder for name in _TEST for folder in found.get(name, ()) if entries(folder)]
    if len(test) == 2:
        return [
            f"{test[0]} and {test[1]} are not used. To score a model on them, make a folder with "
            "these as images/ and labels/."
        ]
    other = [
        path.name
        for pair in _folders(root)
        for folder in pair
        for path in readable_files(folder)
        if stem(path) is None
    ]
    return (
        [f"{root}: files that do not end in dataset.json's file_ending: {first_few(other)}."]
        if other
        else []
    )
