"""Predictions over HTTP: the same bytes as those of the command line's, and nothing left behind."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cdal.imaging.formats import read_image
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from helpers.files import picture, save_nifti, write_series
from helpers.serving import SAMPLING, Running, picture_model, served

ALL = ("mask", "probability", "uncertainty", "votes")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, volume_model: Path) -> dict[str, Path]:
    flat = picture_model(tmp_path_factory.mktemp("flat") / "flat.safetensors")
    return {"volume": volume_model, "flat": flat}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Iterator[Running]:
    with served(tmp_path_factory.mktemp("server"), list(models.values())) as server:
        yield server


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    affine = np.array([[0, -1.2, 0, 5], [0, 0, 0.8, -3], [1, 0, 0, 2], [0, 0, 0, 1.0]])
    return {
        "volume": save_nifti(root / "a b (1).nii.gz", rng.random((17, 20, 14)), affine),
        "flat": picture(root / "röntgen.png", rng.integers(0, 255, (40, 50)).astype(np.uint8)),
    }


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


@pytest.mark.parametrize("name", ["volume", "flat"])
def test_results_are_those_of_predict(
    running: Running, models: dict[str, Path], images: dict[str, Path], name: str, tmp_path: Path
):
    sampling = Sampling(votes=3, seed=7, components=1)
    predict(models[name], [images[name]], tmp_path, sampling, ALL)
    expected = files_of(tmp_path)
    del expected["predictions.json"]
    with images[name].open("rb") as file:
        reply = running.client.post(
            f"/v1/predict/{name}",
            files={"file": (images[name].name, file)},
            data={"sampling": '{"votes": 3, "seed": 7, "components": 1}', "save": ",".join(ALL)},
        )
    assert reply.status_code == 200, reply.text
    with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
        found = {entry: archive.read(entry) for entry in archive.namelist()}
    (row,) = json.loads(found.pop("predictions.json"))["predictions"]
    assert found == expected
    assert row["input"] == images[name].name and row["model"] == name
    assert row["seed"] == 7 and row["vote_count"] == 3


def test_one_result_is_a_file_with_a_length_and_nothing_stays(
    running: Running, images: dict[str, Path], models: dict[str, Path], tmp_path: Path
):
    predict(load(models["volume"], SAMPLING, "cpu"), [images["volume"]], tmp_path)
    with images["volume"].open("rb") as file:
        reply = running.client.post(
            "/v1/predict/volume", files={"file": (images["volume"].name, file)}
        )
    assert reply.content == (tmp_path / "a b (1)_mask.nii.gz").read_bytes()
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert "transfer-encoding" not in reply.headers
    assert 'filename="a b (1)_mask.nii.gz"' in reply.headers["content-disposition"]
    assert running.empties()


def test_a_series_is_one_image(running: Running, models: dict[str, Path], tmp_path: Path):
    folder = write_series(
        tmp_path / "chest", np.random.default_rng(1).integers(0, 500, (16, 18, 20))
    )
    parts = [
        ("file", (f"chest/{path.name}", path.read_bytes())) for path in sorted(folder.iterdir())
    ]
    reply = running.client.post("/v1/predict/volume?wait=false", files=parts)
    assert reply.status_code == 202, reply.text
    job, case = reply.json()["job"], reply.json()["case"]
    assert running.wait_for(job)["state"] == "done"
    answer = running.client.get(f"/v1/cases/{case}").json()
    assert answer["name"] == "chest" and answer["kind"] == "volume"
    assert tuple(answer["shape"]) == read_image(folder).shape
    assert len(answer["layers"]) == 2
    running.client.delete(f"/v1/cases/{case}")
    assert running.client.get(f"/v1/cases/{case}").status_code == 404


def test_events_end_with_the_last_state(running: Running, images: dict[str, Path]):
    with images["flat"].open("rb") as file:
        started = running.client.post("/v1/predict/flat?wait=false", files={"file": file}).json()
    with running.client.stream("GET", f"/v1/jobs/{started['job']}/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]
    assert events[-1]["state"] == "done" and events[-1]["share"] == 1
    assert {event["id"] for event in events} == {started["job"]}
    shares = [event["share"] for event in events]
    assert shares == sorted(shares)
    running.client.delete(f"/v1/cases/{started['case']}")


@pytest.mark.parametrize(
    ("model", "data", "status", "words"),
    [
        ("none", {}, 404, "there are: volume, flat"),
        ("flat", {"save": "masks"}, 422, "masks"),
        ("flat", {"sampling": '{"vote": 3}'}, 422, "no field 'vote'"),
        ("flat", {"sampling": '{"votes": "3"}'}, 422, "votes must be"),
        ("flat", {"sampling": '{"votes": 0}'}, 422, "1 or more"),
        ("flat", {"sampling": "[3]"}, 422, "JSON object"),
        ("flat", {"sampling": "{"}, 422, "JSON object"),
        ("volume", {}, 422, "expected a volume"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    running: Running,
    images: dict[str, Path],
    model: str,
    data: dict[str, str],
    status: int,
    words: str,
):
    with images["flat"].open("rb") as file:
        reply = running.client.post(f"/v1/predict/{model}", files={"file": file}, data=data)
    assert reply.status_code == status
    assert words in reply.json()["detail"]
    assert str(running.site.uploads.root) not in reply.text
    assert running.empties()


def test_what_is_no_image_is_refused(running: Running):
    for files in (
        {"file": ("a.png", b"no picture")},
        {"file": ("a.txt", b"words")},
        [("file", ("a.png", b"x")), ("file", ("b.png", b"y"))],
        {"other": ("a.png", b"x")},
    ):
        reply = running.client.post("/v1/predict/flat", files=files)
        assert reply.status_code == 422 and reply.json()["detail"], reply.text
    assert running.client.post("/v1/predict/flat", content=b"{}").status_code == 422
    assert running.empties()


def test_models_are_described(running: Running):
    models = running.client.get("/v1/models").json()["models"]
    assert [model["name"] for model in models] == ["volume", "flat"]
    assert models[1]["labels"] == [
        {"name": "inner", "number": 1, "colour": "#e69f00"},
        {"name": "outer", "number": 2, "colour": "#56b4e9"},
    ]
    assert [model["dimension"] for model in models] == [3, 2]
    assert running.client.get("/v1/health").json()["status"] == "ok"


def test_the_interface_is_described_without_another_host(running: Running):
    page = running.client.get("/docs").text
    assert "/v1/predict/{model}" in page and "http://" not in page and "https://" not in page
    assert "<script" not in page
    paths = running.client.get("/openapi.json").json()["paths"]
    assert {"/v1/predict/{model}", "/v1/cases/{name}/layers/{kind}", "/metrics"} <= set(paths)


def test_requests_are_counted_without_their_names(running: Running):
    running.client.get("/v1/cases/somebody")
    running.client.get("/somebody-else?name=somebody")
    text = running.client.get("/metrics").text
    assert 'cdal_requests_total{method="GET",route="/v1/cases/{name}",status="404"}' in text
    assert "somebody" not in text
