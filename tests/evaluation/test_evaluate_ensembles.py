"""Honest evaluation of several models: no case is scored that one of them has seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.datasets.phantoms import write_phantoms
from cdal.evaluation.evaluate import evaluate
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import Recipe, override
from cdal.runtime.cost import keep_cost
from cdal.runtime.errors import UserError
from cdal.segmenters.ensemble import ensemble
from helpers.ensembles import member, of_fold, told

VOTES = Sampling(votes=2)


def of(data: Path, folder: Path, *recipes: Recipe) -> list[Path]:
    """A model for each recipe, as if it had been trained on a data folder."""
    return [
        member(
            folder / f"run-{number}" / "model.safetensors", number, recipe, data=told(data, recipe)
        )
        for number, recipe in enumerate(recipes)
    ]


def test_models_of_one_fold_are_scored_on_its_test_cases(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    models = of(phantoms, tmp_path, of_fold(1, seed=0), of_fold(1, seed=1))
    file = ensemble(models, tmp_path / "m.safetensors")
    assert main(["evaluate", str(file), "--data", str(phantoms), "--votes", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["cases"], summary["protocol"]["fold"]) == (4, 1)
    assert (summary["protocol"]["segmenter"], summary["protocol"]["members"]) == (
        "ensemble of 2 cdal",
        2,
    )
    assert summary["protocol"]["training_seed"] is None
    assert summary["cost"]["gigaflops"] > 0
    assert "ged" in summary["annotators"]
    assert "ged_deterministic" not in summary["annotators"]  # an ensemble has no twin
    by_list = evaluate(models, phantoms, VOTES)
    assert by_list.summary()["mean"] == summary["mean"]
    assert evaluate(models, phantoms, VOTES, "validation").summary()["cases"] == 4


def test_the_cost_of_training_is_that_of_all(phantoms: Path, tmp_path: Path):
    models = of(phantoms, tmp_path, of_fold(1, seed=0), of_fold(1, seed=1))
    keep_cost(models[0].parent, {"steps": 3, "seconds": 5.0, "peak_memory": 1.0, "device": "cpu"})
    assert evaluate(models, phantoms, VOTES).cost["training"] == {}
    keep_cost(models[1].parent, {"steps": 4, "seconds": 2.0, "peak_memory": 3.0, "device": "cpu"})
    assert evaluate(models, phantoms, VOTES).cost["training"] == {
        "steps": 7,
        "seconds": 7.0,
        "peak_memory": 3.0,
        "device": "cpu",
    }


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_models_of_several_folds_have_seen_each_others_test_cases(
    order: tuple[int, int], phantoms: Path, tmp_path: Path
):
    models = of(phantoms, tmp_path, *(of_fold(fold) for fold in order))
    for split in ("test", "validation", "train"):
        with pytest.raises(UserError, match=f"the models of the ensemble have different {split}"):
            evaluate(models, phantoms, VOTES, split)
    with pytest.raises(UserError, match=r"16 of the 16 cases were seen .* Remove these cases from"):
        evaluate(models, phantoms, VOTES, "all")
    with pytest.raises(UserError, match="4 of the 4 cases were seen"):
        evaluate(models, phantoms, VOTES, fold=2)


def test_other_data_are_scored_unless_one_model_knows_a_case(phantoms: Path, tmp_path: Path):
    """By name and checksum, whichever model it is."""
    others = write_phantoms(tmp_path / "others", 6, seed=99, size=32, raters=1)
    first, second = of(phantoms, tmp_path, of_fold(0), of_fold(1))
    assert evaluate([first, second], others, VOTES, "all").summary()["cases"] == 6
    with pytest.raises(UserError, match="different test cases"):
        evaluate([first, second], others, VOTES)
    images = {fact.name: fact.digest for fact in check_folder(others).facts}
    names = sorted(images)
    knowing = [
        member(
            tmp_path / f"knowing-{part}.safetensors",
            2,
            of_fold(2),
            data={part: names[:1], "images": images},
        )
        for part in ("train", "validation")
    ]
    for one in knowing:
        for models in ([first, one], [one, first]):
            with pytest.raises(UserError, match="1 of the 6 cases were seen"):
                evaluate(models, others, VOTES, "all")
    shutil.copytree(others, tmp_path / "without")
    for path in (tmp_path / "without").rglob(f"{names[0]}*"):
        path.unlink()
    models = [first, *knowing]
    scores = evaluate(models, tmp_path / "without", replace(VOTES, votes=3), "all")
    assert scores.summary()["cases"] == 5
    assert scores.protocol["fold"] is None


def test_folds_with_a_fixed_test_set_are_scored_on_it(phantoms: Path, tmp_path: Path):
    """As MoNuSeg has one: no fold sees it."""
    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    names = sorted(fact.name for fact in check_folder(phantoms).facts)
    rows = [
        "case,split",
        *(f"{name},{'test' if i < 3 else 'train'}" for i, name in enumerate(names)),
    ]
    (data / "cases.csv").write_text("\n".join(rows) + "\n")
    recipes = [override(of_fold(fold), {"data.partition": "given"}) for fold in (0, 1)]
    models = of(data, tmp_path, *recipes)
    scores = evaluate(models, data, VOTES)
    assert sorted(scores.certainties) == names[:3]
    alone = [evaluate(model, data, Sampling(votes=1, seed=m)) for m, model in enumerate(models)]
    assert np.isfinite(scores.values("dice")).all()
    assert [sorted(one.certainties) for one in alone] == [names[:3]] * 2
    with pytest.raises(UserError, match="different validation cases"):
        evaluate(models, data, VOTES, "validation")
    assert evaluate(models, data, VOTES, fold=1).protocol["fold"] == 1


def test_a_model_without_validation_cases_has_none_to_score(phantoms: Path, tmp_path: Path):
    final = override(of_fold(0), {"data.validation": False})
    models = of(phantoms, tmp_path, of_fold(0), final)
    with pytest.raises(UserError, match="trained on its validation cases too"):
        evaluate(models, phantoms, VOTES, "validation")
