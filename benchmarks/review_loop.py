"""Does a model become better by corrections of its own masks? A simulation, as a Markdown table.

    python benchmarks/review_loop.py --data DATA --out RUN [--first 4] [--reviewed 12] [--fresh 24]
        [--accept 0.8] [--steps-before 500] [--steps-after 500] [--factors 0.1] [--seed 0]
        [--model MODEL]

A model is trained shortly on a few volumes of the hippocampus; `--model` takes a trained one of
them instead, and only volumes of its test. It segments others, of which the
masks above a Dice are accepted; the truth stands for the corrected mask of the rest. The model is
trained further on these reviews as by `cdal train folder --reviewed`. `held out` are the corrected
cases that this training leaves out, `fresh` are volumes that no training and no review has seen;
these alone are a fair sample. `--factors` are learning rates relative to the first training's, with
a training for each. Everything is in RUN, and the same command resumes it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cdal.datasets.folder import open_folder
from cdal.datasets.layout import CaseFiles, DataFolder
from cdal.datasets.reading import read_case
from cdal.datasets.reviews import REVIEWED, keep_review, name_of_case, read_reviews
from cdal.evaluation.before_after import dice_by_case
from cdal.evaluation.metrics import bootstrap_interval, count
from cdal.experiments.ranking import RANKINGS
from cdal.imaging.formats import read_image, read_label, write_label
from cdal.inference.predict import predict
from cdal.recipes.recipe import Recipe, override
from cdal.runtime.files import write_json
from cdal.segmenters.find_models import find_model
from cdal.segmenters.model_header import read_header
from cdal.training.reviewed import read_corrections, train_on_reviews
from cdal.training.start import find_start
from cdal.training.train import train

VALIDATION = 4
PARTITION = "loop"


def parts_of(folder: DataFolder, options: argparse.Namespace) -> dict[str, list[str]]:
    """Names of the cases of each part, drawn by the seed."""
    known, sizes = [case.name for case in folder.cases], {}
    if options.model:
        known = read_header(find_model(options.model)).data["test"]
    else:
        sizes = {"train": options.first, "validation": VALIDATION}
    names = np.random.default_rng(options.seed).permutation(known)
    sizes |= {"reviewed": options.reviewed, "test": options.fresh}
    ends = np.cumsum(list(sizes.values()))
    if ends[-1] > len(names):
        raise SystemExit(f"{ends[-1]} cases are needed; there are {len(names)}.")
    return {
        part: sorted(map(str, drawn))
        for part, drawn in zip(sizes, np.split(names, ends)[: len(sizes)], strict=True)
    }


def first_model(
    folder: DataFolder, parts: dict[str, list[str]], options: argparse.Namespace
) -> Path:
    """Train the first model, on the volumes of the part `train`."""
    home = options.out / "data"
    for case in folder.cases:
        if not any(case.name in parts[part] for part in ("train", "validation", "test")):
            continue
        for path in (case.image, case.labels[0].paths[0]):
            link = home / path.relative_to(folder.root)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(path.resolve())
    shutil.copy(folder.root / "dataset.json", home / "dataset.json")
    split = {part: parts[part] for part in ("train", "validation", "test")}
    write_json(home / "splits.json", {PARTITION: [split]})
    fields = {
        "data.partition": PARTITION,
        "training.steps": options.steps_before,
        "training.seed": options.seed,
        "training.calibrate": False,
    }
    recipe = override(RANKINGS["ranking-hippocampus"].base(), fields)
    return train(recipe, home, options.out / "before", options.device)


def review(results: Path, cases: Sequence[CaseFiles], folder: DataFolder, accept: float) -> None:
    """Accept the masks with a mean Dice above `accept`; correct the others to the truth."""
    rows = json.loads((results / "predictions.json").read_text(encoding="utf-8"))["predictions"]
    by_input = {row["input"]: row for row in rows}
    for case in cases:
        row = by_input[str(case.image)]
        truth = read_case(case, folder)[1][0].array[0]
        mask = read_label(results / row["mask"]).array[0]
        dice = {
            name: count(mask == k, truth == k).dice
            for k, name in enumerate(folder.classes)
            if k > 0
        }
        name = name_of_case(row["input"], row["mask"])
        if name in read_reviews(results).cases:
            continue
        accepted = float(np.mean(list(dice.values()))) > accept
        if not accepted:
            like = read_image(case.image)
            write_label(results / REVIEWED / name.removesuffix(like.suffix), truth, like)
        verdict = "accept" if accepted else "fix"
        keep_review(results, name, row["input"], verdict, row["mask"], {} if accepted else dice)


def after(
    recipe: Recipe, model: Path, results: Path, factor: float, options: argparse.Namespace
) -> Path:
    """Train the model further on the reviews, with a learning rate."""
    start = find_start(model)
    corrections = read_corrections(results, start)
    training = replace(
        corrections.derived.recipe.training,
        steps=options.steps_after,
        learning_rate=recipe.training.learning_rate * factor,
        validate_every=100_000,
    )
    tuned = replace(corrections.derived.recipe, training=training)
    out = options.out / f"after-{factor:g}"
    return train_on_reviews(tuned, corrections, out, start, options.device)[0]


def line(name: str, part: str, before: np.ndarray, now: np.ndarray) -> str:
    """A row of the table: mean Dice before and after, and the paired difference."""
    low, high = bootstrap_interval(now - before)
    return (
        f"| {name} | {part} | {len(now)} | {before.mean():.4f} | {now.mean():.4f} "
        f"| {(now - before).mean():+.4f} ({low:+.4f} to {high:+.4f}) |"
    )


def main() -> None:
    """Simulate the loop and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--model")
    parser.add_argument("--first", type=int, default=4)
    parser.add_argument("--reviewed", type=int, default=12)
    parser.add_argument("--fresh", type=int, default=24)
    parser.add_argument("--accept", type=float, default=0.8)
    parser.add_argument("--steps-before", type=int, default=500)
    parser.add_argument("--steps-after", type=int, default=500)
    parser.add_argument(
        "--factors", type=lambda text: [*map(float, text.split(","))], default=[0.1]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    folder = open_folder(options.data)
    parts = parts_of(folder, options)
    by_name = {case.name: case for case in folder.cases}
    model = find_model(options.model) if options.model else first_model(folder, parts, options)
    recipe = read_header(model).recipe
    results = options.out / "results"
    cases = [by_name[name] for name in parts["reviewed"]]
    predict(model, [case.image for case in cases], results)
    review(results, cases, folder, options.accept)
    verdicts = [found.verdict for found in read_reviews(results).cases.values()]
    print(f"{verdicts.count('accept')} accepted, {verdicts.count('fix')} corrected\n")
    heads = ("learning rate", "cases", "number", "Dice before", "Dice after", "difference (95 %)")
    print("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), sep="\n")
    scored: dict[str, dict[str, float]] = {}

    def score(path: Path, names: Sequence[str]) -> np.ndarray:
        """Mean Dice of the classes for each case; each is segmented once by each model."""
        known = scored.setdefault(str(path), {})
        wanted = [by_name[name] for name in names if name not in known]
        rows = dice_by_case(path, folder, wanted, options.device) if wanted else []
        for case, row in zip(wanted, rows, strict=True):
            known[case.name] = float(np.mean(list(row.values())))
        return np.array([known[name] for name in names])

    for factor in options.factors:
        tuned = after(recipe, model, results, factor, options)
        for part, names in (
            ("held out", read_header(tuned).data["test"]),
            ("fresh", parts["test"]),
        ):
            if names:
                rate = f"{recipe.training.learning_rate * factor:g}"
                print(line(rate, part, score(model, names), score(tuned, names)), flush=True)
    write_json(options.out / "scores.json", scored)


if __name__ == "__main__":
    main()
