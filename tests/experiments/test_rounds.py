"""Simulated annotation: every round adds what was picked, and a second call resumes."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow

from cdal.cli import main
from cdal.datasets.check import check_folder
from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.experiments import crossval, rounds
from cdal.experiments.pool import make_pool
from cdal.experiments.ranking import RANKINGS, Rounds
from cdal.experiments.rounds import first_cases, run_rounds
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.model_header import MODEL
from cdal.training.run_folder import claim
from helpers.events import lines_into
from helpers.recipes import small_recipe
from helpers.verbs import run_here


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Verbs run in this process; returns what was run."""
    run: list[str] = []

    def noted(words: list[str], on_line: object) -> str:
        run.append(words[0])
        return run_here(words, on_line)

    monkeypatch.setattr(crossval, "run_verb", noted)
    monkeypatch.setattr(rounds, "run_verb", noted)
    return run


SMALL = Rounds(
    "tried",
    "Does ranking help?",
    replace(small_recipe(steps=2), data=replace(small_recipe().data, folds=4)),
    sizes=(2, 4, 5),
    seeds=(0,),
    budget="2steps",
    picking=Sampling(votes=1),
    validation=2,
    test=3,
)


def partitions(out: Path) -> dict[str, dict[str, list[str]]]:
    folds = json.loads((out / "tried" / "pool" / "splits.json").read_text())
    return {name: fold for name, (fold,) in folds.items()}


@pytest.mark.slow
def test_rounds_add_what_was_picked_and_are_resumed(
    phantoms: Path, tmp_path: Path, here: list[str]
):
    data, lines = check_folder(phantoms), []
    curves = run_rounds(SMALL, data, tmp_path, "cpu", lines_into(lines))
    assert Counter(here) == {"train": 5, "evaluate": 5, "rank": 4}  # the first training is shared
    found = partitions(tmp_path)
    pool = set(found["all"]["train"])
    for arm in ("random", "mixed"):
        before = set(found["start-2-seed-0"]["train"])
        for size in (4, 5):
            cases = set(found[f"{arm}-{size}-seed-0"]["train"])
            assert len(cases) == size
            assert before < cases <= pool
            run = tmp_path / "tried" / "seed-0"
            trained = json.loads((run / f"{arm}-{size}" / "splits.json").read_text())["run"][0]
            assert set(trained["train"]) == cases
            table = run / (f"{arm}-4" if size == 5 else "start-2") / f"next-{arm}.csv"
            with table.open() as file:
                chosen = [Path(row["path"]).stem for row in csv.DictReader(file) if row["rank"]]
            assert set(chosen) == cases - before
            before = cases
    assert curves.values["dice"]["mixed"].shape == (1, 3, 3)
    np.testing.assert_array_equal(
        curves.values["dice"]["mixed"][:, 0], curves.values["dice"]["random"][:, 0]
    )
    with (tmp_path / "tried/seed-0/mixed-5/evaluation/annotators.csv").open() as file:
        ged = {row["case"]: float(row["ged"]) for row in csv.DictReader(file)}
    assert curves.values["ged"]["mixed"][0, -1].tolist() == [ged[case] for case in curves.cases]

    page = (tmp_path / "tried.md").read_text()
    assert "Does ranking help?" in page
    assert "cdal experiment tried --data DATA --out RUNS --seeds 0 --budget 2steps" in page
    assert "| annotated cases | random | mixed | mixed - random |" in page
    with (tmp_path / "tried.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 3
    assert (tmp_path / "tried.png").is_file()
    assert set(json.loads((tmp_path / "tried.json").read_text())["measures"]) == {"dice", "ged"}

    # A second call runs nothing.
    here.clear()
    again = run_rounds(SMALL, data, tmp_path, "cpu", lines_into(lines))
    assert here == []
    assert again.to_dict() == curves.to_dict()


@pytest.mark.slow
def test_a_seed_that_failed_is_left_out_and_tried_again(
    phantoms: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
):
    data = check_folder(phantoms)
    small = replace(SMALL, sizes=(2, 3), seeds=(0, 1), arms=())

    def failing(words: list[str], on_line: object) -> str:
        if words[0] == "train" and "seed-1/random-3" in words[-1]:
            return "no luck"
        return run_here(words, on_line)

    monkeypatch.setattr(crossval, "run_verb", failing)
    curves = run_rounds(small, data, tmp_path, "cpu")
    assert curves.seeds == (0,)
    assert "no luck" in curves.failed[0]
    assert "no luck" in (tmp_path / "tried.md").read_text()
    with pytest.raises(UserError, match="no luck"):
        run_rounds(replace(small, seeds=(1,)), data, tmp_path, "cpu")
    monkeypatch.setattr(crossval, "run_verb", run_here)
    assert run_rounds(small, data, tmp_path, "cpu").seeds == (0, 1)


def test_other_settings_are_refused(phantoms: Path, tmp_path: Path):
    data, home = check_folder(phantoms), tmp_path / "tried"
    pool = make_pool(SMALL, data, home / "pool")
    job = SMALL.job("mixed", 0, 2, home)
    pool.add_partition("start-2-seed-0", pool.parts["train"][:2])
    pool.add_partition("start-2-seed-0", pool.parts["train"][1::-1])
    with pytest.raises(UserError, match="start-2-seed-0 has other cases"):
        pool.add_partition("start-2-seed-0", pool.parts["train"][1:3])
    with pytest.raises(UserError, match="has other cases"):
        run_rounds(replace(SMALL, test=2), data, tmp_path, "cpu")
    with pytest.raises(UserError, match="expected at least 90 training cases; there are 8"):
        run_rounds(replace(SMALL, sizes=(2, 90)), data, tmp_path / "other", "cpu")
    claim(job.folder, job.recipe)
    (job.folder / MODEL).touch()
    with pytest.raises(UserError, match="run of another recipe"):
        run_rounds(replace(SMALL, budget="3steps"), data, tmp_path, "cpu")


def test_the_pool_holds_the_same_images_and_labels(phantoms: Path, tmp_path: Path):
    pool = make_pool(SMALL, check_folder(phantoms), tmp_path / "pool")
    source = open_folder(phantoms)
    copied = open_folder(pool.folder)
    assert {part: len(cases) for part, cases in pool.parts.items()} == {
        "train": 8,
        "validation": 2,
        "test": 3,
    }
    assert copied.classes == source.classes
    before = {case.name: case for case in source.cases}
    for case in copied.cases:
        image, labels = read_case(case, copied)
        expected, drawn = read_case(before[case.name], source)
        np.testing.assert_array_equal(image.array, expected.array)
        assert len(labels) == len(drawn) == 3
        for label, original in zip(labels, drawn, strict=True):
            np.testing.assert_array_equal(label.array, original.array)


def test_pictures_are_cut_into_tiles(tmp_path: Path):
    rng = np.random.default_rng(0)
    pictures = {f"p{i}": rng.integers(0, 255, (70, 65, 3)).astype(np.uint8) for i in range(6)}
    masks = {name: (picture[..., 0] > 128).astype(np.uint8) for name, picture in pictures.items()}
    for kind, arrays in (("images", pictures), ("labels", masks)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for name, array in arrays.items():
            Pillow.fromarray(array).save(tmp_path / "data" / kind / f"{name}.png")
    recipe = small_recipe()
    data = DataSettings(spatial_dims=2, size=(32, 32), folds=3, patient="^p[0-9]")
    tiled = replace(
        SMALL, recipe=replace(recipe, data=data), tile=32, pool=None, validation=4, test=None
    )
    pool = make_pool(tiled, check_folder(tmp_path / "data"), tmp_path / "pool")
    assert {part: len(cases) for part, cases in pool.parts.items()} == {
        "train": 8,
        "validation": 4,
        "test": 8,
    }
    assert pool.patients["p2_32_0"] == "p2"
    for case in open_folder(pool.folder).cases:
        name, top, left = case.name.split("_")
        part = (slice(int(top), int(top) + 32), slice(int(left), int(left) + 32))
        np.testing.assert_array_equal(np.asarray(Pillow.open(case.image)), pictures[name][part])
        mask = np.asarray(Pillow.open(case.labels[0].paths[0]))
        np.testing.assert_array_equal(mask, masks[name][part])
    # Of two patients, the first two cases are one of each.
    for seed in range(5):
        chosen = first_cases(pool, 2, seed)
        assert len({pool.patients[name] for name in chosen}) == 2
    assert first_cases(pool, 3, 0) == first_cases(pool, 3, 0) != first_cases(pool, 3, 1)


@pytest.mark.parametrize("name", RANKINGS)
def test_a_shipped_simulation_can_be_trained(name: str, tmp_path: Path):
    jobs = RANKINGS[name].jobs(tmp_path)
    assert len(jobs) == len({job.folder for job in jobs}) == 5 * 5
    assert len({job.name for job in jobs}) == len(jobs)
    assert all(job.recipe.training.steps for job in jobs)
    assert list(RANKINGS[name].sizes) == sorted(RANKINGS[name].sizes)


def test_by_itself_a_simulation_shows_its_rounds(capsys: pytest.CaptureFixture[str]):
    assert main(["experiment", "ranking-lidc", "--seeds", "0,1"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["annotated cases"] == [40, 80, 160]
    assert list(shown["variants"]) == ["random", "mixed"]
    assert shown["seeds"] == [0, 1]
    assert main(["experiment", "ranking-lidc", "--folds", "1"]) == 2
    assert "omit --folds" in capsys.readouterr().err
    words = ["--data", "x", "--out", "y", "--arms", "best"]
    assert main(["experiment", "ranking-lidc", *words]) == 2
    assert "Ways of picking: mixed, dice, entropy, random" in capsys.readouterr().err
