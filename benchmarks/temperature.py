"""Temperature scaling compared with votes: can one number calibrate a single pass as well?

    python benchmarks/temperature.py MODEL... --data DATA

Each row has its own temperature, fitted on the validation cases with
`cdal.evaluation.calibration.fit_temperature`. The scores are those of the test cases, before and
after scaling. Timesteps 0 is the same network without diffusion; a model without diffusion has one
row. A deterministic model has one vote, or one for each mirror image of the recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.evaluation.calibration import certainty, fit_temperature, summary_of
from cdal.inference.decision import temper
from cdal.inference.load import load
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.segmenters.find_models import find_model
from cdal.segmenters.model_header import read_header

SAMPLINGS = ((0, 15), (2, 5), (2, 15))


def segmented(
    predictor: Predictor, data: Path, part: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probabilities `[K, *S]` and annotators' classes `[R, *S]` of the cases of one part.

    Args:
        predictor: the model.
        data: path of the data folder.
        part: part of the model's own fold, `validation` or `test`.
    """
    folder = open_folder(data)
    names = set(predictor.header.data[part])
    for case in (case for case in folder.cases if case.name in names):
        image, labels = read_case(case, folder)
        raters = np.stack([label.array[0] for label in labels])
        yield predictor.predict(image, case.name).probability, raters


def row(model: str, data: Path, timesteps: int | None, votes: int) -> str:
    """The table row of one model with one sampling."""
    predictor = load(model, Sampling(votes=votes, timesteps=timesteps, temperature=1))
    temperature = fit_temperature(segmented(predictor, data, "validation"))
    test = list(segmented(predictor, data, "test"))
    summaries = []
    for scale in (1.0, temperature):
        certainties = [
            certainty(temper(probability, scale), None, raters[0]) for probability, raters in test
        ]
        summaries.append(summary_of(certainties, np.zeros(len(certainties))))
    scores = [f"{summary[name]:.4f}" for name in ("ece", "nll", "brier") for summary in summaries]
    drawn = str(predictor.votes)
    return " | ".join(
        [
            f"`{model}`",
            "" if timesteps is None else str(timesteps),
            drawn,
            f"{temperature:.2f}",
            *scores,
        ]
    )


def main() -> None:
    """Fit the temperatures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True, type=Path)
    options = parser.parse_args()
    heads = (
        "model",
        "timesteps",
        "votes",
        "temperature",
        "ECE",
        "after",
        "NLL",
        "after",
        "Brier",
        "after",
    )
    print("| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), sep="\n")
    for model in options.models:
        diffuses = read_header(find_model(model)).recipe.segmenter.diffusion_steps is not None
        for timesteps, votes in SAMPLINGS if diffuses else ((None, 15),):
            print(f"| {row(model, options.data, timesteps, votes)} |", flush=True)


if __name__ == "__main__":
    main()
