"""What the ingredients do for the votes, on phantoms whose annotators' disagreement is known: a Markdown table.

    python benchmarks/what_makes_votes_differ.py --out runs/votes

Every row is trained for the same number of steps with the same seed on the same phantoms, and scored on the held-out quarter with
16 votes. The squared error, Dice and cross-entropy are in every row but the last.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cdal.data.phantoms import write_phantoms
from cdal.demo import VOTES
from cdal.evaluation import evaluate
from cdal.recipe import override
from cdal.recipes import find_recipe, with_segmenter
from cdal.training import train

COUNT = 160
NO_ENERGY = ["--segmenter.energy=0", "--segmenter.training_votes=1"]
NO_ADVERSARY = ["--segmenter.adversarial=0", "--segmenter.attention=none"]
ROWS = {
    "the default": [],
    "without the adversarial term and attention": NO_ADVERSARY,
    "without the energy score": NO_ENERGY,
    "without either": NO_ENERGY + NO_ADVERSARY,
    "without either, without recycling": [*NO_ENERGY, *NO_ADVERSARY, "--segmenter.recycling=0"],
    "without z": ["--segmenter.latent=0"],
    "plain U-Net": None,
}


def main() -> None:
    """Train and score each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    data = write_phantoms(options.out / "phantoms", COUNT)
    heads = ("trained", "Dice", "energy distance", "of its coarse segmentation", "rank correlation of the spread")
    print("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), sep="\n")
    for name, fields in ROWS.items():
        recipe = with_segmenter(find_recipe("phantoms"), "cdal-unet" if fields is None else "cdal")
        recipe = override(recipe, ["--training.minutes=null", f"--training.steps={options.steps}", *(fields or [])])
        model = train(recipe, data, options.out / name.replace(" ", "-").replace(",", ""))
        summary = evaluate(model, data, votes=1 if fields is None else VOTES).summary()
        agreement = summary["annotators"]
        numbers = [summary["mean"]["dice"], agreement["ged"], agreement.get("ged_deterministic"), agreement["rank_correlation"]]
        cells = ["" if number is None else f"{number:.3f}" for number in numbers]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
