"""The same prediction again, errors of single inputs, and a caller that stops."""

from __future__ import annotations

import json
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
