"""What the votes of a model could reach if somebody who knows the truth chose among them: Dice, as a Markdown table.

    python benchmarks/best_vote.py RUN... --data DATA [--group PATTERN]

Each run's own test cases, fifteen votes, scored on the images' own grid. `--group` tells the cases whose names match the regular
expression from the others.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.evaluation.metrics import count, nan_mean
from cdal.inference.decision import decide
from cdal.inference.load import load
from cdal.inference.sampling import Sampling

VOTES = 15


def dice(mask: np.ndarray, truth: np.ndarray, classes: int) -> float:
    """Mean over the foreground's classes."""
    return nan_mean(np.array([count(mask == k, truth == k).dice for k in range(1, classes)]))


def main() -> None:
    """Segment and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--group")
    options = parser.parse_args()
    folder = open_folder(options.data)
    found = defaultdict(list)
    for model in options.models:
        predictor = load(model, Sampling(votes=VOTES))
        names = set(predictor.header.data["test"])
        for case in (case for case in folder.cases if case.name in names):
            image, labels = read_case(case, folder)
            truth = labels[0].array[0]
            prediction = predictor.predict(image, case.name, keep_votes=True)
            votes = prediction.votes
            assert votes is not None
            each = [dice(decide(vote, prediction.components), truth, votes.shape[1]) for vote in votes]
            scores = (dice(prediction.mask, truth, votes.shape[1]), float(np.mean(each)), max(each))
            found["all"].append(scores)
            if options.group:
                found["matching" if re.search(options.group, case.name) else "others"].append(scores)
    heads = ("cases", "number", "mean of the votes", "one vote", "best vote")
    print("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), sep="\n")
    for group, rows in found.items():
        print(f"| {group} | {len(rows)} | " + " | ".join(f"{score:.4f}" for score in np.mean(rows, axis=0)) + " |")


if __name__ == "__main__":
    main()
