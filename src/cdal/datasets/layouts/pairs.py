"""Two folders side by side: images, and labels of equal names.

    images/NAME.ext           one file per image; or one per channel, NAME_0000.ext, NAME_0001.ext,
                              ..., as in nnU-Net
    images/NAME/              a DICOM series
    labels/NAME.ext           a label image; names such as NAME_mask.ext and NAME_seg.ext also work
    labels/NAME_rater0.ext    ... or one label image per annotator
    labels/NAME_CLASS.ext     ... or one mask per class; labels/CLASS/NAME.ext also works
    labels/NAME.geojson       ... or an annotation, see `cdal.imaging.annotations`
    annotations.json          ... or one file for all images (COCO, CVAT), also in `labels`

Names of the two folders may be in capital letters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from cdal.datasets.layout import Annotation, CaseFiles, Listing
from cdal.datasets.layouts.files import (
    MASK_WORDS,
    RATER,
    by_stem,
    entries,
    label_stem,
    no_image,
    note_partners,
    owner,
    subfolders,
)
from cdal.datasets.shared import add_shared, is_shared
from cdal.imaging.channels import CHANNEL
from cdal.runtime.text import composed, is_plain

_FOLDERS = {
    "images": ("labels", "masks", "annotations"),
    "jpegimages": ("segmentationclass",),  # Pascal VOC, and CVAT's masks
}


def readings(root: Path) -> list[str]:
    """Return the pairs of folders that the root holds, in words; capital letters do not matter."""
    return [
        f"{images.name}/ and {', '.join(path.name for path in beside)}"
        if labels is None
        else f"{images.name}/ and {labels.name}/"
        for images, labels, beside in _folders(root)
    ]


def list_cases(root: Path) -> Listing:
    """List the cases of the only pair of folders."""
    ((images, labels, beside),) = _folders(root)
    return list_pairs(images, labels, beside)


def _folders(root: Path) -> list[tuple[Path, Path | None, list[Path]]]:
    """Return the folders of images and of labels, and the files of all images beside them."""
    found = subfolders(root)
    beside = [path for path in entries(root) if is_shared(path)]
    pairs: list[tuple[Path, Path | None, list[Path]]] = [
        (image_folder, label_folder, beside)
        for images, partners in _FOLDERS.items()
        for labels in partners
        for image_folder in found.get(images, ())
        for label_folder in found.get(labels, ())
    ]
    if beside and not pairs:
        pairs = [(folder, None, beside) for images in _FOLDERS for folder in found.get(images, ())]
    return pairs


def list_pairs(
    images_folder: Path, labels_folder: Path | None, beside: Sequence[Path] = ()
) -> Listing:
    """List the cases of a folder of images and a folder of labels.

    Args:
        images_folder: folder of images.
        labels_folder: folder of labels; `None` if there are only files of all images.
        beside: files that hold the annotations of all images.
    """
    problems: list[str] = []
    label_files = by_stem(labels_folder, problems, label_stem) if labels_folder else {}
    images = grouped_channels(
        by_stem(images_folder, problems, series=True), set(label_files), problems
    )
    shared, own = shared_and_own(label_files, images)
    labels, unmatched = annotations_of(own, set(images), problems)
    if labels_folder:
        labels_by_folder(labels_folder, set(images), labels, unmatched, problems)
    annotations = joined(labels, problems)
    add_shared(annotations, [*beside, *shared], images, problems)
    where = labels_folder or images_folder.parent
    return paired(images, annotations, unmatched, images_folder, where, problems)


def shared_and_own(
    files: Mapping[str, Path], images: Collection[str]
) -> tuple[list[Path], dict[str, Path]]:
    """Divide label files into those of several images, and those of one.

    Args:
        files: label files by their names.
        images: names of the images; a file with one of them is of that image only.
    """
    shared = {
        stem: path
        for stem, path in files.items()
        if owner(stem, images)[0] is None and is_shared(path)
    }
    own = {stem: path for stem, path in files.items() if stem not in shared}
    return list(shared.values()), own


def paired(
    images: Mapping[str, tuple[Path, ...]],
    labels: Mapping[str, tuple[Annotation, ...]],
    unmatched: list[str],
    images_folder: Path,
    labels_folder: Path,
    problems: list[str],
) -> Listing:
    """Return the cases that have an image and a label; others are problems.

    Args:
        images: files of each image by its name.
        labels: annotations of each image by its name.
        unmatched: names of labels without an image.
        images_folder: where missing images should be.
        labels_folder: where missing labels should be.
        problems: problems that were found so far.
    """
    if not images:
        problems.insert(0, no_image(images_folder))
    else:
        note_partners(
            problems, sorted(set(images) - set(labels)), "image without a label", labels_folder
        )
    note_partners(problems, sorted(unmatched), "label without an image", images_folder)
    cases = tuple(
        CaseFiles(name, images[name], labels[name]) for name in sorted(set(images) & set(labels))
    )
    return Listing(cases, problems=tuple(problems))


def grouped_channels(
    files: Mapping[str, Path], label_stems: set[str], problems: list[str]
) -> dict[str, tuple[Path, ...]]:
    """Return the image files of each case.

    If images are called `NAME_0000`, `NAME_0001`, ... and labels `NAME`, the files of one name are
    the channels of one case.
    """
    matches = {stem: match for stem in files if (match := CHANNEL.match(stem))}
    labelled = sum(match["name"] in label_stems for match in matches.values())
    if len(matches) < len(files) or 2 * labelled < len(files) or set(files) & label_stems:
        return {stem: (path,) for stem, path in files.items()}
    return by_channel(files, problems)


def by_channel(files: Mapping[str, Path], problems: list[str]) -> dict[str, tuple[Path, ...]]:
    """Return the files `NAME_0000`, `NAME_0001`, ... by `NAME`; missing channels are problems."""
    grouped: dict[str, dict[str, Path]] = {}
    for stem, path in files.items():
        match = CHANNEL.match(stem)
        if match is None:
            problems.append(
                f"{path}: expected a name that ends in the number of its channel, such as "
                f"{stem}_0000. Rename it, or remove it."
            )
        else:
            grouped.setdefault(match["name"], {})[match["channel"]] = path
    channels = sorted({channel for case in grouped.values() for channel in case})
    for name, case in grouped.items():
        if missing := [channel for channel in channels if channel not in case]:
            problems.append(
                f"{name} has no channel {', '.join(missing)}, which other images have. Add its "
                f"file, or remove {name}."
            )
    return {
        name: tuple(case[channel] for channel in sorted(case)) for name, case in grouped.items()
    }


Labels = dict[str, list[tuple[str, str, Path]]]
"""Label files of each image: kind (`plain`, `rater` or `mask`), name of the class, path."""


def annotations_of(
    files: Mapping[str, Path], names: set[str], problems: list[str]
) -> tuple[Labels, list[str]]:
    """Return the label files of each image, and the names of labels without an image."""
    labels: Labels = {}
    unmatched = []
    for stem, path in files.items():
        name, rest = owner(stem, names)
        if name is None:
            unmatched.append(stem)
        elif not rest or rest.lower() in MASK_WORDS:
            labels.setdefault(name, []).append(("plain", "", path))
        elif RATER.match(rest):
            labels.setdefault(name, []).append(("rater", "", path))
        else:
            labels.setdefault(name, []).append(("mask", rest, path))
    return labels, unmatched


def labels_by_folder(
    folder: Path, names: set[str], labels: Labels, unmatched: list[str], problems: list[str]
) -> None:
    """Add the masks in subfolders that are named after their class."""
    for sub in (path for path in entries(folder) if path.is_dir()):
        mask = composed(sub.name)
        if not is_plain(mask):
            problems.append(
                f"{str(sub)!r}: expected the name of a class; it is not UTF-8 or holds control "
                "characters. Rename the folder."
            )
            continue
        for stem, path in by_stem(sub, problems, label_stem).items():
            name, rest = owner(stem, names)
            if name is None or (rest and rest.lower() not in MASK_WORDS):
                unmatched.append(f"{sub.name}/{stem}")
            else:
                labels.setdefault(name, []).append(("mask", mask, path))


def joined(labels: Labels, problems: list[str]) -> dict[str, tuple[Annotation, ...]]:
    """Return the annotations of each image; labels of several kinds are problems."""
    annotations: dict[str, tuple[Annotation, ...]] = {}
    for name, files in labels.items():
        kinds = [kind for kind, _, _ in files]
        if len(set(kinds)) > 1 or kinds.count("plain") > 1:
            listed = ", ".join("/".join(path.parts[-2:]) for _, _, path in files[:4])
            problems.append(
                f"{name} has labels of several kinds: {listed}. Keep one label image, or one for "
                "each annotator, or one mask for each class."
            )
        single = [Annotation((("", path),)) for kind, _, path in files if kind != "mask"]
        masks = tuple(sorted((mask, path) for kind, mask, path in files if kind == "mask"))
        annotations[name] = tuple(single) or (Annotation(masks),)
    return annotations
