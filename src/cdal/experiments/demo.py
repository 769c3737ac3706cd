"""`cdal demo`: train, evaluate and report on phantoms, in a few minutes; it needs no data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cdal.datasets.folder import open_folder
from cdal.datasets.partition import split_cases
from cdal.datasets.phantoms import TRUTH, write_phantoms
from cdal.datasets.reading import read_case
from cdal.evaluation.agreement import disagreement
from cdal.evaluation.evaluate import evaluate
from cdal.evaluation.metrics import SCORES, count
from cdal.evaluation.page import Section, write_report
from cdal.evaluation.pictures import case_picture, certainty_figure, embed
from cdal.evaluation.result import Evaluation, write_result
from cdal.imaging.formats import read_label
from cdal.inference.load import load
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.recipes import find_recipe
from cdal.runtime.events import Report, silent
from cdal.training.run_folder import check_same_run
from cdal.training.train import train

COUNT = 320
VOTES = 16
SHOWN = 6


@dataclass(frozen=True)
class Outcome:
    """Outcome of the demonstration.

    Attributes:
        dice: mean Dice over the held-out phantoms, against their true masks.
        summary: summary of the evaluation against the annotators, see `Evaluation.summary`.
        report: path of the report page.
        model: path of the model file.
    """

    dice: float
    summary: dict[str, Any]
    report: Path
    model: Path

    def lines(self) -> list[str]:
        """The lines that `cdal demo` prints; the last one is the mean Dice."""
        votes, twin = (
            self.summary["annotators"]["ged"],
            self.summary["annotators"]["ged_deterministic"],
        )
        correlation = self.summary["annotators"]["rank_correlation"]
        return [
            f"model: {self.model}",
            f"report: {self.report}",
            "rank correlation of uncertainty with the annotators' disagreement (border pixels, "
            f"{VOTES} votes): {correlation:.3f}",
            f"generalised energy distance to the annotators: {votes:.3f}; the same network without "
            f"diffusion: {twin:.3f} ({1 - votes / twin:.0%} lower)",
            f"mean Dice against the annotators' majority: {self.summary['mean']['dice']:.4f}",
            f"mean Dice on {self.summary['cases']} held-out phantoms, against their true masks: "
            f"{self.dice:.4f}",
        ]


def run_demo(
    out: Path,
    minutes: float = 3.0,
    seed: int = 0,
    device: str = "auto",
    report: Report = silent,
) -> Outcome:
    """Draw phantoms, train on half of them, evaluate the held-out quarter, and write the report.

    Args:
        out: folder for phantoms, run and report; an unfinished training in it is resumed.
        minutes: training time in minutes.
        seed: random seed for all draws.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: receives the progress, see `cdal.train`.

    Raises:
        UserError: the folder holds a demonstration with other settings.
    """
    data, run = out / "phantoms", out / "run"
    recipe = find_recipe("phantoms")
    recipe = replace(recipe, training=replace(recipe.training, minutes=minutes, seed=seed))
    check_same_run(run, recipe)  # before the work, and before its phantoms are replaced
    write_phantoms(data, COUNT, seed)
    model = train(recipe, data, run, device, report)
    predictor = load(model, Sampling(votes=VOTES, seed=seed), device)
    evaluation = evaluate(predictor, data)
    write_result(evaluation, out / "evaluation")
    dice, pictures = _against_truth(predictor, data)
    page = write_report(
        out / "report.html", "cDAL on phantoms", _sections(evaluation, dice, run, pictures)
    )
    return Outcome(dice, evaluation.summary(), page, model)


def _against_truth(predictor: Predictor, data: Path) -> tuple[float, list[str]]:
    """Mean Dice of the held-out phantoms against their true masks, and pictures of the first."""
    folder = open_folder(data)
    recipe = predictor.header.recipe
    scores: list[float] = []
    pictures: list[str] = []
    for case in split_cases(folder, recipe.data).test:
        image, labels = read_case(case, folder)
        truth = read_label(data / TRUTH / case.image.name).array[0]
        prediction = predictor.predict(image, case.name, keep_votes=True)
        scores.append(count(prediction.mask == 1, truth == 1).dice)
        if len(pictures) < SHOWN:
            raters = np.stack([label.array[0] for label in labels])
            disputed = disagreement(raters, len(folder.classes))
            votes = prediction.votes
            assert votes is not None  # kept above
            pictures.append(
                case_picture(
                    image.array[0],
                    truth,
                    prediction.probability[1],
                    prediction.uncertainty,
                    votes[:, 1],
                    disputed,
                )
            )
    return sum(scores) / len(scores), pictures


def _sections(evaluation: Evaluation, dice: float, run: Path, pictures: list[str]) -> list[Section]:
    summary = evaluation.summary()
    agreement = summary["annotators"]
    scores = summary["mean"]
    rows = [("score", "mean", "95 % interval")]
    for name, heading in SCORES.items():
        low, high = scores["interval"][name]
        rows.append((heading, f"{scores[name]:.4f}", f"{low:.4f} to {high:.4f}"))
    uncertainty_rows = [
        ("measure", "value"),
        ("generalised energy distance, votes", f"{agreement['ged']:.4f}"),
        (
            "generalised energy distance, same network without diffusion",
            f"{agreement['ged_deterministic']:.4f}",
        ),
        (
            "rank correlation of spread with disagreement, border pixels",
            f"{agreement['rank_correlation']:.4f}",
        ),
    ]
    return [
        Section(
            "What was done",
            f"{COUNT} phantoms were drawn: half for training, a quarter for choosing the weights, "
            "and a quarter held out. Six simulated annotators outline each phantom; they agree "
            "where a border is sharp and differ where it is blurred. The segmenter saw one "
            "annotator at a time, and never the true masks. The scores are those of the held-out "
            f"quarter. Against the true masks the mean Dice is {dice:.4f}.",
        ),
        Section("Scores against the annotators' majority", table=rows),
        Section(
            "Uncertainty against the annotators' disagreement",
            f"{VOTES} votes per phantom. The distance compares the votes with all the annotators; "
            "0 is perfect. The correlation is Spearman's, between the spread of the votes and the "
            "spread of the annotators.",
            table=uncertainty_rows,
            pictures=[embed(certainty_figure(summary["uncertainty"]))],
        ),
        Section("Held-out phantoms", pictures=pictures),
        Section("Learning curve", pictures=[embed(run / "learning_curve.png")]),
    ]
