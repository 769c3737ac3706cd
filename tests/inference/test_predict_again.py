"""The same prediction again, errors of single inputs, and a caller that stops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.datasets.folder import open_folder
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.predictor import Predictor
from cdal.inference.sampling import Sampling
from cdal.runtime.errors import UserError
from cdal.runtime.events import Event


def test_the_same_call_again_makes_only_what_is_missing(
    trained: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither results that are there, nor those of other bytes, options or names, are taken for
    done."""
    images = [case.image for case in open_folder(phantoms).cases[:3]]
    made: list[str] = []
    frame = Predictor.frame

    def watched(self: Predictor, image: object, name: str) -> object:
        made.append(Path(name).stem)
        return frame(self, image, name)

    monkeypatch.setattr(Predictor, "frame", watched)

    def again(changed: int, **options: object) -> None:
        made.clear()
        save = options.pop("save", ("mask",))
        written = predict(trained, images, tmp_path / "out", Sampling(votes=1, **options), save)
        assert (len(written.done), written.earlier, len(made)) == (3, 3 - changed, changed)
        assert not written.failed

    again(3)
    again(0)
    first = (tmp_path / "out/predictions.json").read_bytes()
    (tmp_path / f"out/{images[1].stem}_mask.png").unlink()
    again(1)
    assert made == [images[1].stem]
    again(0)
    assert (
        json.loads(first)["predictions"][0]
        == json.loads((tmp_path / "out/predictions.json").read_bytes())["predictions"][0]
    )
    again(3, seed=1)
    again(3, temperature=2.0)
    again(3, components=1)
    again(3, save=("mask", "uncertainty"))
    again(0, save=("uncertainty", "mask"))
    copy = tmp_path / "copies" / images[0].name
    copy.parent.mkdir()
    copy.write_bytes(images[0].read_bytes())
    images[0] = copy
    again(3)
    Pillow.fromarray(np.asarray(Pillow.open(copy))[::-1]).save(copy)
    again(1)


def of_one_name(phantoms: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two different images, `x1/a.png` and `x2/a.png`."""
    paths = tmp_path / "x1" / "a.png", tmp_path / "x2" / "a.png"
    for case, path in zip(open_folder(phantoms).cases, paths, strict=False):
        path.parent.mkdir()
        path.write_bytes(case.image.read_bytes())
    return paths


@pytest.mark.parametrize("save", ["mask", "overlay"])
@pytest.mark.parametrize("records", ["of now", "without the source", "of a version without"])
def test_results_of_another_image_of_the_name_are_kept(
    records: str, save: str, trained: Path, phantoms: Path, tmp_path: Path
):
    """Also if nothing would be replaced: an overlay beside the mask of another image misleads."""
    first, second = of_one_name(phantoms, tmp_path)
    out = tmp_path / "out"
    predict(trained, [first], out, Sampling(votes=1))
    before = (out / "a_mask.png").read_bytes()
    if records == "of a version without":
        shutil.rmtree(out / ".cdal")
    elif records == "without the source":
        record = out / ".cdal/records/a.json"
        content = json.loads(record.read_text())
        del content["results"][0]["source"]
        record.write_text(json.dumps(content))
    for _ in range(2):
        written = predict(trained, [second], out, Sampling(votes=1), [save])
        (message,) = written.failed.values()
        assert not written.done and f"{second} would share the name a" in message
        assert str(first) in message and "Give another --out" in message
    assert [path.name for path in out.glob("a_*")] == ["a_mask.png"]
    assert (out / "a_mask.png").read_bytes() == before
    (row,) = json.loads((out / "predictions.json").read_text())["predictions"]
    assert row["input"] == str(first)


def test_one_path_in_two_folders_is_of_two_images(
    trained: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second = of_one_name(phantoms, tmp_path)
    monkeypatch.chdir(first.parent)
    assert predict(trained, ["a.png"], "../out", Sampling(votes=1)).done
    monkeypatch.chdir(second.parent)
    (message,) = predict(trained, ["a.png"], "../out", Sampling(votes=1)).failed.values()
    assert f"another image, {first}, whose results are in" in message


def test_an_image_that_was_moved_or_changed_or_has_no_results_is_no_obstacle(
    trained: Path, phantoms: Path, tmp_path: Path
):
    first, second = of_one_name(phantoms, tmp_path)
    third = tmp_path / "x3" / "a.png"
    third.parent.mkdir()

    def segmented(path: Path) -> bool:
        return bool(predict(trained, [path], tmp_path / "out", Sampling(votes=1)).done)

    assert segmented(first)
    first.rename(third)
    assert segmented(third)
    third.write_bytes(second.read_bytes())
    assert segmented(third) and segmented(second)
    first.write_bytes(open_folder(phantoms).cases[2].image.read_bytes())
    assert not segmented(first)
    (tmp_path / "out" / "a_mask.png").unlink()
    assert segmented(first)


@pytest.mark.parametrize(
    "error",
    [ValueError("wrong"), MemoryError(), KeyError("x"), RuntimeError("no memory"), OSError(5, "x")],
)
def test_no_error_of_one_input_stops_the_others(
    error: Exception,
    trained: Path,
    phantoms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    images = [case.image for case in open_folder(phantoms).cases[:3]]
    frame = Predictor.frame

    def broken(self: Predictor, image: object, name: str) -> object:
        if name == str(images[1]):
            raise error
        return frame(self, image, name)

    monkeypatch.setattr(Predictor, "frame", broken)
    written = predict(trained, images, tmp_path / "out", Sampling(votes=1))
    assert [Path(row["input"]) for row in written.done] == [images[0], images[2]]
    (message,) = written.failed.values()
    assert message.startswith(str(images[1]))
    assert ("not enough memory" in message) == ("memory" in repr(error).lower())
    assert {p.name for p in (tmp_path / "out/.cdal").rglob(".cdal-*")} == set()


def test_an_error_of_whoever_listens_ends_the_call(trained: Path, phantoms: Path, tmp_path: Path):
    """A server stops a prediction so; what is done is recorded."""

    def listen(event: Event) -> None:
        if event.done == 1:
            raise ValueError("stop")

    images = [case.image for case in open_folder(phantoms).cases[:3]]
    with pytest.raises(ValueError, match="stop"):
        predict(trained, images, tmp_path, Sampling(votes=1), report=listen)
    assert len(json.loads((tmp_path / "predictions.json").read_text())["predictions"]) == 1


def test_a_model_whose_votes_are_not_finite_segments_nothing(trained: Path, tmp_path: Path):
    predictor = load(trained, Sampling(votes=1))
    array = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    sample = predictor.engine.sample

    def wild(image: np.ndarray, votes: int, rng: object) -> np.ndarray:
        drawn = sample(image, votes, rng).copy()
        drawn[0, 0, 1, 3, 4] = np.nan
        return drawn

    predictor.predict(array)
    predictor.engine.sample = wild  # type: ignore[method-assign]
    with pytest.raises(UserError, match="votes are NaN or infinite"):
        predictor.predict(array)
