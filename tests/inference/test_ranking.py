"""What to annotate next, as a user meets it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import stats

import cdal
from cdal.cli import main
from cdal.inference.predictor import Predictor
from cdal.inference.ranking import COLUMNS, METHODS, Ranking, rank
from cdal.inference.sampling import Sampling
from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event
from helpers.graphs import small_model
from helpers.segmenters import bright_predictor


@pytest.fixture
def predictor() -> Predictor:
    """Finds what is bright: a faint disc has a low expected Dice."""
    return bright_predictor(DataSettings(spatial_dims=2, size=(32, 32), intensities="range"))


def disc(path: Path, level: int, centre: tuple[int, int] = (16, 16), noise: int = 0) -> Path:
    """A disc on black; the fainter it is, the less sure the predictor is of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.indices((32, 32))
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 49
    picture = np.where(inside, level, 0)
    picture = picture + np.random.default_rng(noise).integers(0, noise + 1, picture.shape)
    Pillow.fromarray(picture.astype(np.uint8)).save(path)
    return path


def names(ranking: Ranking) -> list[str]:
    return [Path(row.path).stem for row in ranking.chosen]


def test_the_most_doubtful_come_first_with_their_expected_dice(
    predictor: Predictor, tmp_path: Path
):
    levels = {"a": 255, "b": 140, "c": 190}
    for name, level in levels.items():
        disc(tmp_path / f"{name}.png", level)
    ranking = rank(predictor, [tmp_path], 2, "dice")
    assert names(ranking) == ["b", "c"]
    assert [row.rank for row in ranking.rows] == [1, 2, None]
    assert ranking.rows[2].reason == "not among the first 2"
    for row in ranking.rows:
        prediction = predictor.predict(row.path)
        expected = prediction.signs.expected_dice(1)
        assert row.expected_dice == pytest.approx(expected, rel=1e-6)
        entropies = stats.entropy(prediction.probability, axis=0)
        assert row.entropy == pytest.approx(float(entropies.mean()), rel=1e-4)
    assert ranking.rows[0].score == pytest.approx(1 - ranking.rows[0].expected_dice)
    assert names(rank(predictor, [tmp_path], 3, "entropy")) == sorted(
        levels,
        key=lambda name: -next(row.entropy for row in ranking.rows if Path(row.path).stem == name),
    )


def test_near_copies_are_not_chosen_together(predictor: Predictor, tmp_path: Path):
    for copy in range(6):
        disc(tmp_path / f"copy{copy}.png", 140, noise=2 + copy)
    disc(tmp_path / "left.png", 200, (16, 9))
    disc(tmp_path / "low.png", 200, (23, 20))
    assert {name[:4] for name in names(rank(predictor, [tmp_path], 3, "dice"))} == {"copy"}
    ranking = rank(predictor, [tmp_path], 3)
    assert sum(name.startswith("copy") for name in names(ranking)) == 1
    first, second, _ = ranking.chosen
    assert (first.nearest, first.likeness) == ("", None)
    assert second.nearest == first.path
    assert second.score == pytest.approx((1 - second.expected_dice) * (1 - second.likeness))
    assert "new beside copy" in second.reason


def test_random_is_numpys_permutation(predictor: Predictor, tmp_path: Path):
    paths = [disc(tmp_path / f"{i:02d}.png", 100 + i) for i in range(12)]
    predictor.sampling = Sampling(seed=7)
    ranking = rank(predictor, paths[::-1], 12, "random")
    expected = [paths[i].stem for i in np.random.default_rng(7).permutation(12)]
    assert names(ranking) == expected
    assert {row.reason for row in ranking.rows} == {"drawn at random"}
    assert all(row.expected_dice is None and row.score is None for row in ranking.rows)


@pytest.mark.parametrize("method", METHODS)
def test_patients_are_kept_apart(predictor: Predictor, method: str, tmp_path: Path):
    for patient in "abc":
        for image in range(3):
            disc(
                tmp_path / "images" / f"{patient}_{image}.png", 130 + 10 * ord(patient) % 97 + image
            )
    by_name = rank(predictor, [tmp_path / "images"], 7, method, patient="^[a-z]")
    for start in (0, 3):
        assert sorted(name[0] for name in names(by_name)[start : start + 3]) == ["a", "b", "c"]
    assert by_name.chosen[3].reason.endswith("image 2 of its patient")
    assert {row.patient for row in by_name.rows} == {"a", "b", "c"}
    # The same from a table beside the images.
    rows = [f"{p}_{i},{p.upper()}" for p in "abc" for i in range(3)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,patient", *rows]))
    by_table = rank(predictor, [tmp_path / "images"], 7, method)
    assert names(by_table) == names(by_name)
    assert by_table.notes[0] == f"3 patients of {tmp_path / 'cases.csv'}"
    with pytest.raises(UserError, match="--patient: the pattern 'x' finds nothing"):
        rank(predictor, [tmp_path / "images"], 7, method, patient="x")


def test_copies_and_unreadable_images_are_listed_and_stop_nothing(
    predictor: Predictor, tmp_path: Path
):
    disc(tmp_path / "a.png", 140)
    disc(tmp_path / "b.png", 200, (9, 9))
    shutil.copy(tmp_path / "a.png", tmp_path / "twin.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    events: list[Event] = []
    ranking = cdal.rank(predictor, [tmp_path, tmp_path / "gone.png"], report=events.append)
    assert set(names(ranking)) == {"a", "b"}
    reasons = {Path(row.path).stem: row.reason for row in ranking.rows}
    assert reasons["twin"] == f"the same bytes as {tmp_path / 'a.png'}"
    assert reasons["bad"].startswith("failed: ")
    assert reasons["gone"].startswith("failed: ")
    assert {Path(path).stem for path in ranking.failed} == {"bad", "gone"}
    assert "left out: 1 files with the same bytes as another" in ranking.notes
    # The file that is not there is known before.
    assert (events[-1].done, events[-1].total, events[-1].task) == (4, 4, "ranking")


def test_images_that_the_model_knows_are_left_out(trained: Path, phantoms: Path, tmp_path: Path):
    disc(tmp_path / "new.png", 200)
    ranking = rank(trained, [phantoms / "images", tmp_path / "new.png"], sampling=Sampling(votes=1))
    assert names(ranking) == ["new"]
    words = {row.reason.split(", ", 1)[1] for row in ranking.rows if row.rank is None}
    assert words == {f"a {part} case of the model" for part in ("train", "validation", "test")}


def test_the_command_writes_a_table_and_repeats_itself(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, level, centre in (("a", 140, (16, 16)), ("=b", 200, (9, 20)), ("c", 90, (20, 9))):
        disc(tmp_path / "in" / f"{name}.png", level, centre)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    words = ["rank", str(trained), str(tmp_path / "in"), "--count", "2", "--votes", "2"]
    tables = []
    for number in range(2):
        out = tmp_path / f"{number}.csv"
        assert main([*words, "--out", str(out)]) == 3
        tables.append(out.read_bytes())
    assert tables[0] == tables[1]
    rows = list(csv.DictReader(io.StringIO(tables[0].decode())))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["rank"] for row in rows] == ["1", "2", "", ""]
    assert 0 < float(rows[0]["expected_dice"]) < 1
    assert rows[1]["nearest"] == rows[0]["path"]
    captured = capsys.readouterr()
    assert "2 of 4 images chosen" in captured.out
    assert "bad.png" in captured.err
    assert main([*words, "--json", "--out", str(tmp_path / "again.csv")]) == 3
    images = json.loads(capsys.readouterr().out)["images"]
    assert [image["path"] for image in images] == [row["path"] for row in rows]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "0"], "count must be 1 or more"),
        (["--method", "best"], "There are: mixed, dice, entropy, random"),
        (["--patient", "("], "regular expression"),
        (["--out", "gone/rank.csv"], "expected a file in a folder that is there"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    trained: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
):
    source = str(disc(tmp_path / "a.png", 200))
    assert main(["rank", str(trained), source, "--out", str(tmp_path / "r.csv"), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_an_exported_graph_ranks_without_pytorch(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from cdal.inference.export import export

    graph = export(small_model("res-unet", tmp_path), "onnx", tmp_path / "graph")
    for i in range(3):
        disc(tmp_path / "in" / f"{i}.png", 120 + 60 * i, (10 + 4 * i, 16))
    code = f"""
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] not in ("torch", "monai", "lightning_fabric"), name
sys.meta_path.insert(0, Forbidden())
import cdal
for row in cdal.rank({str(graph)!r}, [{str(tmp_path / "in")!r}], 3).chosen:
    print(row.path, row.expected_dice)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    here = rank(tmp_path / "res-unet.safetensors", [tmp_path / "in"], 3)
    printed = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    assert [path for path, _ in printed] == [row.path for row in here.chosen]
    for (_, dice), row in zip(printed, here.chosen, strict=True):
        assert float(dice) == pytest.approx(row.expected_dice, abs=1e-3)
