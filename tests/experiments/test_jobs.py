"""Which trainings and evaluations there are, and what is done of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.experiments.jobs import Job, plan, read_budget, systems_of
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from helpers.recipes import small_recipe


def test_a_folder_with_another_recipe_is_refused(
    recipe: str, phantoms: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "out" / "cdal").mkdir(parents=True)
    (tmp_path / "out" / "cdal" / "fold-0").symlink_to(trained)
    assert (
        main(
            [
                "crossval",
                recipe,
                "--data",
                str(phantoms),
                "--out",
                str(tmp_path / "out"),
                "--folds",
                "0",
            ]
        )
        == 2
    )
    assert "holds a run of another recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (None, {}),
        ("5min", {"steps": None, "minutes": 5.0}),
        ("90m", {"steps": None, "minutes": 90.0}),
        ("1.5 hours", {"steps": None, "minutes": 90.0}),
        ("500steps", {"steps": 500, "minutes": None}),
        ("1 step", {"steps": 1, "minutes": None}),
    ],
)
def test_budgets(text: str | None, fields: dict[str, object]):
    assert read_budget(text) == fields


@pytest.mark.parametrize("text", ["", "5", "0min", "-3steps", "5 parsecs"])
def test_what_is_not_a_budget_is_refused(text: str):
    with pytest.raises(UserError, match="minutes, hours or steps"):
        read_budget(text)


def test_fields_of_a_segmenter_reach_the_systems_that_have_them(phantoms: Path, tmp_path: Path):
    fields = {"segmenter.features": 8, "training.batch": "2"}
    systems = systems_of(small_recipe(), ["cdal", "dynunet"], fields)
    jobs = plan(systems, check_folder(phantoms), tmp_path, [0, 2], "4steps", [7])
    assert [(job.system, job.fold, job.recipe.data.fold) for job in jobs] == [
        ("cdal", 0, 0),
        ("cdal", 2, 2),
        ("dynunet", 0, 0),
        ("dynunet", 2, 2),
    ]
    assert jobs[2].recipe.segmenter.features == 8
    assert jobs[0].recipe.segmenter == small_recipe().segmenter
    assert {
        (job.recipe.training.batch, job.recipe.training.steps, job.recipe.training.seed)
        for job in jobs
    } == {(2, 4, 7)}


def test_a_way_to_sample_that_fails_leaves_its_model_alone(tmp_path: Path):
    scored = Job("cdal", 0, small_recipe(), tmp_path)
    other = replace(scored, system="three votes", sampling=Sampling(votes=3))
    for job in (scored, other):
        job.evaluation.mkdir()
        (job.evaluation / "summary.json").touch()
    assert scored.done
    assert other.done
    other.failure.touch()
    assert scored.done
    assert not other.done
    assert other.result == f"three votes={tmp_path / 'evaluation-votes-3' / 'failed.json'}"
