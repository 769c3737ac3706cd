"""Dice of the best vote of each case, chosen with knowledge of the truth, as a Markdown table.

    python benchmarks/best_vote.py RUN... --data DATA [--group PATTERN]

The Dice of the mean and of a single vote are given for comparison. The cases are the test cases of
each run, with fifteen votes, scored on the images' own grid. `--group` also scores the cases whose
names match a regular expression separately from the others.
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
    """Mean Dice over the foreground classes."""
    return nan_mean(np.array([count(mask == k, truth == k).dice for k in range(1, classes)]))


def main() -> None:
    """Segment the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--group")
    options = parser.parse_args()
    folder = open_folder(options.data)
    groups = defaultdict(list)
    for model in options.models:
        predictor = load(model, Sampling(votes=VOTES))
        names = set(predictor.header.data["test"])
        for case in (case for case in folder.cases if case.name in names):
            image, labels = read_case(case, folder)
            truth = labels[0].array[0]
            prediction = predictor.predict(image, case.name, keep_votes=True)
            votes = prediction.votes
            assert votes is not None
            vote_scores = [
                dice(decide(vote, prediction.components), truth, votes.shape[1]) for vote in votes
            ]
            scores = (
                dice(prediction.mask, truth, votes.shape[1]),
                float(np.mean(vote_scores)),
                max(vote_scores),
            )
            groups["all"].append(scores)
            if options.group:
                groups["matching" if re.search(options.group, case.name) else "others"].append(
                    scores
                )
    heads = ("cases", "number", "mean of the votes", "one vote", "best vote")
    print("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), sep="\n")
    for group, rows in groups.items():
        print(
            f"| {group} | {len(rows)} | "
            + " | ".join(f"{score:.4f}" for score in np.mean(rows, axis=0))
            + " |"
        )


if __name__ == "__main__":
    main()
