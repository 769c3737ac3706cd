"""Draws images that several annotators outlined: their masks, votes of a model, its uncertainty.

    python benchmarks/annotators_picture.py MODEL --data DATA --out docs/annotators.png

The cases are the first test case that all annotators drew something in, the first that all but one
did, and so on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import cdal
from cdal.datasets.folder import open_folder
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.reading import read_case
from cdal.inference.predictor import Predictor

_SHOWN = 4
"""Annotators and votes that are shown."""

_COLOURS = {"annotator": "#0072b2", "vote": "#e69f00"}


def one_of_each(folder: DataFolder, names: set[str]) -> list[CaseFiles]:
    """The first case of each number of annotators who drew something, most of them first."""
    found: dict[int, CaseFiles] = {}
    for case in folder.cases:
        if case.name in names:
            _, labels = read_case(case, folder)
            drawn = sum(bool(label.array.any()) for label in labels)
            found.setdefault(drawn, case)
    return [found[drawn] for drawn in sorted(found, reverse=True) if drawn]


def draw(predictor: Predictor, folder: DataFolder, cases: list[CaseFiles], side: int) -> Figure:
    """One row for each case; the middle of each image, `side` pixels wide."""
    columns = 2 * _SHOWN + 2
    figure = Figure(figsize=(1.05 * columns, 1.12 * len(cases)), layout="constrained")
    axes = figure.subplots(len(cases), columns, squeeze=False)
    for row, case in zip(axes, cases, strict=True):
        image, labels = read_case(case, folder)
        prediction = predictor.predict(image, case.name, keep_votes=True)
        middle = tuple(slice((s - side) // 2, (s + side) // 2) for s in image.shape)
        grey = image.array[0][middle]
        assert prediction.votes is not None  # because they were asked for
        masks = [("annotator", label.array[0]) for label in labels[:_SHOWN]]
        masks += [("vote", vote.argmax(axis=0)) for vote in prediction.votes[:_SHOWN]]
        row[0].imshow(grey, cmap="gray")
        for axis, (kind, mask) in zip(row[1:-1], masks, strict=True):
            axis.imshow(grey, cmap="gray")
            if mask[middle].any():
                axis.contour(mask[middle], [0.5], colors=_COLOURS[kind], linewidths=1.2)
        row[-1].imshow(prediction.uncertainty[middle], cmap="magma", vmin=0)
    titles = ["image", *[f"annotator {i + 1}" for i in range(_SHOWN)]]
    titles += [*[f"vote {i + 1}" for i in range(_SHOWN)], "uncertainty"]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=64, help="pixels that are shown of each image")
    options = parser.parse_args()
    predictor, folder = cdal.load(options.model), open_folder(options.data)
    cases = one_of_each(folder, set(predictor.header.data["test"]))
    draw(predictor, folder, cases, options.side).savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
