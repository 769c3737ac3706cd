"""Experiments: every variant is a recipe that can be trained, and a run answers its question and
can be resumed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.evaluation.evaluate import evaluate
from cdal.experiments import EXPERIMENTS, crossval, find_experiment
from cdal.experiments.experiment import Arm, Ensemble, Experiment, run_experiment
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import to_dict, to_yaml
from cdal.runtime.errors import UserError
from cdal.runtime.version import revision
from helpers.events import lines_into
from helpers.recipes import small_recipe
from helpers.verbs import run_here


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_variant_is_a_recipe_and_no_two_are_the_same(name: str):
    recipes = find_experiment(name).recipes()
    plain = [json.dumps(to_dict(recipe), sort_keys=True) for recipe in recipes.values()]
    assert len(set(plain)) == len(plain)


def test_the_variants_change_what_their_names_say():
    recipes = {
        name: recipe.segmenter
        for name, recipe in find_experiment("ingredients-hippocampus").recipes().items()
    }
    base = recipes["cdal"]
    assert recipes["no z"] == replace(base, latent=0)
    assert recipes["raw attention"] == replace(base, attention="raw")
    assert recipes["no recycling"] == replace(base, recycling=0.0)
    assert not recipes["no diffusion"].stochastic
    published = recipes["the paper's losses"]
    assert (
        published.squared_error,
        published.dice,
        published.cross_entropy,
        published.energy,
        published.adversarial,
    ) == (
        1,
        0,
        0,
        0,
        0,
    )


def test_a_run_answers_is_resumed_and_says_how(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """In this process; that each training has one of its own is tested in `test_crossval`."""
    monkeypatch.setattr(crossval, "run_verb", run_here)
    (tmp_path / "small.yaml").write_text(to_yaml(small_recipe(steps=2)))
    experiment = Experiment(
        "tried",
        "Does diffusion matter?",
        str(tmp_path / "small.yaml"),
        {
            "cdal": Arm(),
            "image network alone": Arm("cdal-unet"),
            "no diffusion": Arm("cdal-deterministic"),
        },
        samplings={"three votes": Sampling(votes=3)},
        fields={"segmenter.votes": 4},
        seeds=(0,),
        budget="2steps",
    )
    data, lines = check_folder(phantoms), []
    comparison = run_experiment(
        experiment, data, tmp_path / "out", device="cpu", report=lines_into(lines)
    )
    assert [one.name for one in comparison.competitors] == [
        "cdal",
        "image network alone",
        "no diffusion",
        "three votes",
    ]
    assert not any(one.failure for one in comparison.competitors)
    page = (tmp_path / "out" / "tried.md").read_text()
    assert "Does diffusion matter?" in page
    command = "cdal experiment tried --data DATA --out RUNS --folds 0 --seeds 0 --budget 2steps"
    command += " --segmenter.votes=4"
    assert f"{command}\n" in page
    assert f"cDAL {revision()};" in page
    numbers = json.loads((tmp_path / "out" / "tried.json").read_text())
    assert {"ece", "nll", "brier", "aurc", "auroc_spread", "ged"} <= set(
        numbers["systems"]["cdal"]["uncertainty"]
    )
    assert (
        "auroc_spread" not in numbers["systems"]["image network alone"]["uncertainty"]
    )  # one vote has no spread
    with (tmp_path / "out" / "tried.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["case"] for row in rows}) * 4
    summary = json.loads(
        (tmp_path / "out/tried/cdal/fold-0/evaluation-votes-3/summary.json").read_text()
    )
    assert summary["protocol"]["votes"] == 3

    # With another seed, only that is run; ways to sample can be left out, and unknown variants are
    # refused.
    lines.clear()
    more = replace(experiment, seeds=(0, 1))
    again = run_experiment(
        more, data, tmp_path / "out", ["image network alone"], "cpu", lines_into(lines)
    )
    assert sum("done already" in line for line in lines) == 2
    assert [(result.fold, result.seed) for result in again.finished[0].results] == [(0, 0), (0, 1)]
    means = [again.finished[0].results[seed].scores for seed in (0, 1)]
    dice = [np.mean([scores["dice"].mean() for scores in one.values()]) for one in means]
    assert again.described["cdal"][None]["dice"].sd_over_seeds == pytest.approx(
        np.std(dice, ddof=1)
    )
    assert again.described["cdal"][None]["dice"].mean == pytest.approx(np.mean(dice))
    with pytest.raises(UserError, match="has no 'recycling'"):
        experiment.jobs(data, tmp_path / "out", ["recycling"])


@pytest.mark.slow
def test_trainings_of_a_variant_vote_together(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those that are scored by themselves, and a further one that is not."""
    monkeypatch.setattr(crossval, "run_verb", run_here)
    (tmp_path / "small.yaml").write_text(to_yaml(small_recipe(steps=2)))
    experiment = Experiment(
        "together",
        "Are three better than one?",
        str(tmp_path / "small.yaml"),
        {"one network": Arm("cdal-unet")},
        ensembles={"three networks": Ensemble("one network", (0, 1, 2))},
        seeds=(0, 1),
        budget="2steps",
    )
    assert experiment.about()["ensembles"] == {"three networks": "one network, seeds 0, 1, 2"}
    data, lines, out = check_folder(phantoms), [], tmp_path / "out"
    jobs = experiment.jobs(data, out)
    assert [job.name for job in jobs[1:]] == [
        "one network, fold 0, seed 1",
        "three networks, fold 0",
    ]
    assert {job.state for job in jobs} == {"missing"}
    comparison = run_experiment(experiment, data, out, device="cpu", report=lines_into(lines))
    assert not any(one.failure for one in comparison.competitors)
    assert [len(one.results) for one in comparison.competitors] == [2, 1]
    (result,) = comparison.finished[1].results
    assert (result.members, result.seed, result.protocol["votes"]) == (3, None, 3)
    costs = [one.cost() for one in comparison.finished]
    assert costs[1]["parameters"] == 3 * costs[0]["parameters"]
    assert costs[1]["training_steps"] == 6
    numbers = json.loads((out / "together.json").read_text())
    runs = sorted((out / "together").glob("*/fold-0*/cost.json"))
    seconds = [json.loads(run.read_text())["seconds"] for run in runs if "seeds" not in str(run)]
    assert len(seconds) == 3
    assert numbers["training_hours"] == pytest.approx(sum(seconds) / 3600)
    assert experiment.jobs(data, out)[-1].state == "scored"

    # Its votes are those of the three runs.
    folder = out / "together" / "three-networks" / "fold-0-seeds-0-1-2"
    runs = [out / "together/one-network" / f"fold-0{s}" for s in ("", "-seed-1", "-seed-2")]
    scores = [evaluate(model, phantoms).values("dice") for model in (folder, runs)]
    np.testing.assert_array_equal(*scores)
    np.testing.assert_array_equal(scores[0], result.values("dice"))

    # Once more: nothing is missing; without its other seeds it cannot be.
    lines.clear()
    run_experiment(experiment, data, out, ["three networks"], "cpu", lines_into(lines))
    assert all("done already" in line for line in lines)
    alone = replace(experiment, seeds=(0,), ensembles={"one": Ensemble("one network")})
    with pytest.raises(UserError, match="one is an ensemble of trainings with several seeds"):
        alone.jobs(data, out)
    assert len(alone.jobs(data, out, ["one network"])) == 1


def test_an_ensemble_without_a_member_has_failed(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A member that failed is not trained once more for the ensemble."""
    (tmp_path / "small.yaml").write_text(to_yaml(small_recipe(steps=2)))
    experiment = Experiment(
        "failing",
        "?",
        str(tmp_path / "small.yaml"),
        {"cdal": Arm("cdal-unet")},
        ensembles={"both": Ensemble("cdal")},
        seeds=(0, 1),
    )
    asked: list[str] = []

    def failing(words: Sequence[str], on_line: Callable[[str], object]) -> str:
        asked.append(words[0])
        return "it broke"

    monkeypatch.setattr(crossval, "run_verb", failing)
    with pytest.raises(UserError, match="every system failed"):
        run_experiment(experiment, check_folder(phantoms), tmp_path / "out", device="cpu")
    assert asked == ["train", "train"]
    failure = next((tmp_path / "out" / "failing" / "both").rglob("failed.json"))
    assert json.loads(failure.read_text())["message"] == "cdal, fold 0: it has failed"


def test_experiments_are_listed_and_unknown_ones_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["experiment"]) == 0
    assert "ingredients-hippocampus" in capsys.readouterr().out
    assert main(["experiment", "ingredient-hippocampus", "--data", "x", "--out", "y"]) == 2
    assert "Did you mean ingredients-hippocampus?" in capsys.readouterr().err
    assert (
        main(
            [
                "experiment",
                "ingredients-hippocampus",
                "--data",
                "x",
                "--out",
                "y",
                "--data.foldz",
                "3",
            ]
        )
        == 2
    )
    assert "data.folds" in capsys.readouterr().err
    assert main(["experiment", "ingredients-hippocampus", "--data", "x"]) == 2
    assert "--data and --out" in capsys.readouterr().err


def test_by_itself_an_experiment_shows_its_variants(capsys: pytest.CaptureFixture[str]):
    assert main(["experiment", "ingredients-monuseg", "--budget", "7steps"]) == 0
    shown, experiment = (
        yaml.safe_load(capsys.readouterr().out),
        find_experiment("ingredients-monuseg"),
    )
    assert list(shown["variants"]) == list(experiment.arms)
    assert list(shown["samplings"]) == list(experiment.samplings)
    assert shown["budget"] == "7steps"
    assert shown["seeds"] == [0, 1, 2]
