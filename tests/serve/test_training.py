"""Training over HTTP: the process that is started, its curve, its end, and the model it makes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.serving import Running, served
from helpers.trainings import Pretended


@pytest.fixture
def running(tmp_path: Path, volume_model: Path, process: Pretended) -> Iterator[Running]:
    with served(tmp_path, [volume_model], tmp_path / "results") as server:
        yield server
        process.go.set()


def ended(server: Running) -> dict[str, object]:
    for _ in range(200):
        answer = server.client.get("/v1/training").json()
        if answer["state"] not in ("running", "stopping"):
            return answer
        time.sleep(0.02)
    raise AssertionError("the training does not end")


BETTER = {"cases": 3, "before": {"a": 0.5}, "after": {"a": 0.6}, "better": True}


def test_a_training_is_a_process_whose_model_is_adopted(
    running: Running, process: Pretended, tmp_path: Path, volume_model: Path
):
    client = running.client
    assert client.get("/v1/training").json()["state"] == "idle"
    assert client.post("/v1/training/adopt").status_code == 404
    asked = {"model": "volume", "minutes": 2, "name": "round 1"}
    assert client.post("/v1/training", json=asked).status_code == 202
    assert client.post("/v1/training", json=asked).status_code == 429
    assert client.post("/v1/training/adopt").status_code == 404
    out = tmp_path / "results" / "trained" / "round 1"
    process.compared = BETTER
    process.go.set()
    answer = ended(running)
    assert process.words == [
        *("train", "folder", "--reviewed", "--data", str(tmp_path / "results")),
        *("--from", str(volume_model), "--out", str(out), "--minutes", "2", "--device", "cpu"),
    ]
    assert answer["state"] == "done" and answer["result"] == {"model": "round 1", **BETTER}
    curve = answer["curve"]
    assert isinstance(curve, list) and len(curve) <= 202
    assert {"step": 1000, "loss": None, "dice": 0.8} in curve
    losses = [point["loss"] for point in curve if point["loss"] is not None]
    assert losses == sorted(losses, reverse=True) and losses[0] < 1
    assert client.post("/v1/training/adopt").json() == {"model": "round_1"}
    names = [model["name"] for model in client.get("/v1/models").json()["models"]]
    assert names == ["volume", "round_1"]


@pytest.mark.parametrize("compared", [None, {**BETTER, "better": False}])
def test_a_model_that_is_not_known_to_be_better_is_not_adopted_by_itself(
    running: Running, process: Pretended, compared: dict[str, object] | None
):
    process.compared = compared
    process.go.set()
    running.client.post("/v1/training", json={"minutes": 1})
    assert ended(running)["state"] == "done"
    assert running.client.post("/v1/training/adopt").status_code == 422
    assert running.client.post("/v1/training/adopt?anyway=true").status_code == 200


def test_a_training_can_be_stopped_and_may_fail(
    running: Running, process: Pretended, tmp_path: Path
):
    client = running.client
    assert client.delete("/v1/training").json()["state"] == "idle"
    client.post("/v1/training", json={"minutes": 1})
    assert client.delete("/v1/training").json()["state"] == "stopping"
    assert ended(running)["state"] == "stopped"
    assert client.delete("/v1/training").json()["state"] == "stopped"
    process.ended.clear()
    process.reason = f"{tmp_path / 'results'}/review.json: there are no reviews"
    process.go.set()
    client.post("/v1/training", json={"minutes": 1})
    answer = ended(running)
    assert answer["state"] == "failed" and answer["message"] == "review.json: there are no reviews"
    for minutes in (0, -1, 1e9):
        assert client.post("/v1/training", json={"minutes": minutes}).status_code == 422
    assert client.post("/v1/training", json={"model": "none"}).status_code == 404


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "..", ".hidden", "-x", "a\n", "\ud800", "x" * 200]
)
def test_names_of_trainings_are_taken_as_they_are_or_refused(
    running: Running, process: Pretended, name: str
):
    body = json.dumps({"minutes": 1, "name": name})
    for path in ("/v1/training", "/train/volume"):
        reply = running.client.post(path, content=body)
        assert reply.status_code == 422 and "name must be" in reply.json()["detail"]
    assert running.client.get("/v1/training").json()["state"] == "idle"
    assert running.client.post("/v1/training", json={"minuts": 1}).status_code == 422


def test_slicer_trains_too(running: Running, process: Pretended):
    client = running.client
    assert client.get("/info/").json()["trainers"]["volume"]["config"] == {"minutes": 10.0}
    assert client.delete("/train/").status_code == 404
    started = client.post("/train/volume", json={"minutes": 1, "client_id": "me"}).json()
    assert started["status"] == "RUNNING" and started["start_ts"]
    assert client.post("/train/volume", json={}).status_code == 429
    assert client.get("/train/?check_if_running=true").status_code == 200
    assert client.get("/info/").json()["train_stats"]["volume"]["total_epochs"] == 60
    assert client.delete("/train/").json()["status"] == "RUNNING"  # until its step is finished
    ended(running)
    assert client.get("/train/?check_if_running=true").status_code == 404
    assert client.get("/train/").json()["status"] == "ERROR"
    assert client.get("/train/").json()["details"] == ["stopped"]


def test_the_end_of_the_server_ends_the_training(
    tmp_path: Path, volume_model: Path, process: Pretended
):
    with served(tmp_path, [volume_model], tmp_path / "results") as server:
        server.client.post("/v1/training", json={"minutes": 1})
    assert process.ended.is_set()
    assert server.site.training.run is not None and server.site.training.run.state == "stopped"


def test_a_server_without_results_trains_nothing(tmp_path: Path, volume_model: Path):
    with served(tmp_path, [volume_model]) as server:
        assert server.client.post("/v1/training", json={}).status_code == 422
        assert server.client.get("/info/").json()["trainers"] == {}
