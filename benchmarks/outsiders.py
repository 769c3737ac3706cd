"""How often images are said to be unlike the training images, as a Markdown table.

    python benchmarks/outsiders.py MODEL --data DATA [--other FOLDER ...]

The first row is false alarms: the test cases of the model as they are. The next rows are the same
cases after a change that the model was not made for. `--other` adds rows with the images of other
folders. `strict` refuses an image that is unlike before it is segmented.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_image_of
from cdal.imaging.image import Image
from cdal.imaging.open import open_image
from cdal.inference.load import load
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError

MOST = 60
"""Images that are taken of another folder, evenly spaced."""


def changes() -> dict[str, Callable[[Image], Image]]:
    """The changes by name."""

    def of(array: Callable[[np.ndarray], np.ndarray]) -> Callable[[Image], Image]:
        return lambda image: replace(image, array=np.ascontiguousarray(array(image.array)))

    def middle(values: np.ndarray) -> np.ndarray:
        inside = (slice(n // 4, n // 4 + max(2, n // 2)) for n in values.shape[1:])
        return values[(slice(None), *inside)]

    def spaced(factor: float) -> Callable[[Image], Image]:
        scale = np.diag([factor] * 3 + [1.0])
        return lambda im: im if im.affine is None else replace(im, affine=im.affine @ scale)

    def noisy(values: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(0).normal(0, 0.5 * values.std(), values.shape)
        return np.clip(values + noise, values.min(), values.max()).astype(np.float32)

    return {
        "as they are": lambda image: image,
        "inverted contrast": of(lambda values: values.max() + values.min() - values),
        "upside down": of(
            lambda values: values[:, :, :, ::-1] if values.ndim == 4 else values[:, ::-1]
        ),
        "turned by 90 degrees": of(lambda values: np.rot90(values, axes=(1, 2))),
        "the middle half": of(middle),
        "twice the voxel size in the header": spaced(2.0),
        "half the voxel size in the header": spaced(0.5),
        "noise of half the standard deviation": of(noisy),
        "blurred over 3 voxels": of(
            lambda values: np.stack([ndimage.gaussian_filter(v, 3) for v in values])
        ),
        "channels in reverse order": of(lambda values: values[::-1]),
    }


def flagged(predictor: Predictor, images: Iterable[Image]) -> tuple[int, int, str]:
    """Number of images, how many of them are unlike or refused, and the first message."""
    count, alarms, first = 0, 0, ""
    for image in images:
        count += 1
        try:
            predictor.predict(image, "image")
        except UserError as error:
            alarms, first = alarms + 1, first or str(error)
    return count, alarms, first


def main() -> None:
    """Compare the images and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--other", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    predictor = load(options.model, Sampling(votes=1, strict=True))
    names = set(predictor.header.data["test"])
    cases = [case for case in open_folder(options.data).cases if case.name in names]
    images = [read_image_of(case) for case in cases]
    print("| images | number | unlike | the first message |\n|---|---|---|---|")
    for name, change in changes().items():
        changed = [change(image) for image in images]
        if name == "as they are" or any(
            not np.array_equal(new.array, old.array)
            or (new.affine is not None and not np.array_equal(new.affine, old.affine))
            for new, old in zip(changed, images, strict=True)
        ):
            show(name, *flagged(predictor, changed))
    for folder in options.other:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        chosen = paths[:: max(1, len(paths) // MOST)][:MOST]
        show(str(folder.parent.name), *flagged(predictor, map(opened, chosen)))


def opened(path: Path) -> Image:
    """The image of a file."""
    with open_image(path) as image:
        assert isinstance(image, Image)
        return image


def show(name: str, count: int, alarms: int, message: str) -> None:
    """Print a row."""
    print(f"| {name} | {count} | {alarms / max(1, count):.0%} | {message} |", flush=True)


if __name__ == "__main__":
    main()
