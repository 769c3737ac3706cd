"""Dice of one model for several numbers of votes and timesteps, as a Markdown table.

    python benchmarks/votes_and_timesteps.py hippocampus --data DATA

Timesteps 0 is the same network without diffusion. It has one vote, or one for each mirror image.
`--mirror` and `--no-mirror` override the recipe's use of mirror images.
"""

from __future__ import annotations

import argparse

from cdal.evaluation.evaluate import evaluate
from cdal.inference.load import load
from cdal.inference.sampling import Sampling

GRID = ((0, 15), (1, 1), (1, 5), (1, 15), (2, 1), (2, 5), (2, 15), (4, 1), (4, 5), (4, 15))


def main() -> None:
    """Evaluate the model at every point of the grid and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction)
    options = parser.parse_args()
    heads = ("timesteps", "votes", "class", "Dice (95 % interval)", "HD95 mm", "s a case")
    print("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), sep="\n")
    for timesteps, votes in GRID:
        predictor = load(
            options.model, Sampling(votes=votes, timesteps=timesteps, mirror=options.mirror)
        )
        summary = evaluate(predictor, options.data).summary()
        for name, scores in (*summary["classes"].items(), ("mean", summary["mean"])):
            low, high = scores["interval"]["dice"]
            dice = f"{scores['dice']:.4f} ({low:.4f} - {high:.4f})"
            print(
                f"| {timesteps} | {predictor.votes} | {name} | {dice} | {scores['hd95']:.3f} | "
                f"{summary['seconds_per_case']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
