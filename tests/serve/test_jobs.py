"""The queue: one computation at a time, the rest in order, none more than there is room for."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.recipes.recipe import DataSettings
from cdal.serve.stoppable import stoppable
from helpers.files import picture
from helpers.segmenters import bright_predictor
from helpers.serving import Held, Running, served

FLAT = DataSettings(spatial_dims=2, size=(16, 16))


@pytest.fixture
def held() -> Iterator[Held]:
    predictor = Held(bright_predictor(FLAT))
    yield predictor
    predictor.go.set()


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return picture(tmp_path / "x.png", np.eye(20, dtype=np.uint8)).read_bytes()


def noise(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (side, side)).astype(np.uint8)


def start(server: Running, content: bytes) -> httpx.Response:
    files = {"file": ("x.png", content)}
    return server.client.post("/v1/predict/bright?wait=false", files=files)


def test_jobs_wait_their_turn_and_more_than_the_queue_are_refused(
    tmp_path: Path, held: Held, content: bytes
):
    with served(tmp_path, [held.predictor], queue=2) as server:
        running = start(server, content).json()["job"]
        assert held.begun.wait(20)
        waiting = [start(server, content).json()["job"] for _ in range(2)]
        refused = start(server, content)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
        assert len(server.site.uploads) == 3  # that of the refused one is gone
        states = [server.client.get(f"/v1/jobs/{job}").json() for job in (running, *waiting)]
        assert [state["state"] for state in states] == ["running", "queued", "queued"]
        assert [state["position"] for state in states] == [0, 1, 2]
        assert "cdal_jobs_waiting 2.0" in server.client.get("/metrics").text
        held.go.set()
        assert [server.wait_for(job)["state"] for job in (running, *waiting)] == ["done"] * 3


def test_jobs_can_be_cancelled_while_they_wait_and_while_they_run(
    tmp_path: Path, held: Held, content: bytes
):
    with served(tmp_path, [held.predictor]) as server:
        first, second = (start(server, content).json() for _ in range(2))
        assert held.begun.wait(20)
        assert server.client.delete(f"/v1/jobs/{second['job']}").json()["state"] == "cancelled"
        server.client.delete(f"/v1/jobs/{first['job']}")
        held.go.set()
        assert server.wait_for(first["job"])["state"] in ("cancelled", "done")
        third = start(server, content).json()
        assert server.wait_for(third["job"])["state"] == "done"
        for one in (first, second, third):
            server.client.delete(f"/v1/cases/{one['case']}")
        assert server.empties()


def test_a_running_job_ends_at_its_next_step(tmp_path: Path, content: bytes):
    predictor = bright_predictor(DataSettings(spatial_dims=2, size=(16, 16)))
    begun, calls = threading.Event(), []

    def slow() -> None:
        calls.append(time.monotonic())
        begun.set()
        time.sleep(0.1)

    large = picture(tmp_path / "large.png", noise(160)).read_bytes()
    with served(tmp_path, [stoppable(predictor, slow)]) as server:
        one = start(server, large).json()
        assert begun.wait(20)
        server.client.delete(f"/v1/jobs/{one['job']}")
        assert server.wait_for(one["job"])["state"] == "cancelled"
        assert len(calls) < 20  # of about a hundred windows


def test_nothing_stays_of_an_upload_that_is_deleted_while_it_is_computed(
    tmp_path: Path, held: Held, content: bytes
):
    with served(tmp_path, [held.predictor]) as server:
        one = start(server, content).json()
        assert held.begun.wait(20)
        server.client.delete(f"/v1/cases/{one['case']}")
        held.go.set()
        following = start(server, content).json()
        assert server.wait_for(following["job"])["state"] == "done"
        server.client.delete(f"/v1/cases/{following['case']}")
        assert server.empties()


def test_a_computation_that_takes_too_long_is_ended(tmp_path: Path, content: bytes):
    slow = stoppable(bright_predictor(FLAT), lambda: time.sleep(0.3))
    with served(tmp_path, [slow], seconds=0.2) as server:
        large = picture(tmp_path / "large.png", noise(80)).read_bytes()
        reply = server.client.post("/v1/predict/bright", files={"file": ("x.png", large)})
        assert reply.status_code == 408 and "--seconds" in reply.json()["detail"]
        assert server.empties()


def test_a_client_that_leaves_is_not_computed_for(tmp_path: Path, held: Held, content: bytes):
    with served(tmp_path, [held.predictor]) as server:
        start(server, content)
        assert held.begun.wait(20)
        with pytest.raises(httpx.ReadTimeout):
            files = {"file": ("x.png", content)}
            server.client.post("/v1/predict/bright", files=files, timeout=0.5)
        for _ in range(100):
            if not server.site.jobs.waiting and len(server.site.uploads) == 1:
                break
            time.sleep(0.05)
        assert server.site.jobs.waiting == 0
        assert len(server.site.uploads) == 1
        held.go.set()


def test_at_the_end_the_current_case_ends_and_the_waiting_are_told(
    tmp_path: Path, held: Held, content: bytes
):
    with served(tmp_path, [held.predictor]) as server, ThreadPoolExecutor(2) as pool:
        files = {"file": ("x.png", content)}

        def ask() -> httpx.Response:
            return httpx.post(f"{server.address}/v1/predict/bright", files=files, timeout=60)

        first = pool.submit(ask)
        assert held.begun.wait(20)
        second = pool.submit(ask)
        while not server.site.jobs.waiting:
            time.sleep(0.01)
        server.site.close()
        refused = second.result(20)
        assert refused.status_code == 503 and "ending" in refused.json()["detail"]
        assert start(server, content).status_code == 503
        held.go.set()
        assert first.result(20).status_code == 200
        assert server.empties()


def test_results_of_many_clients_are_not_mixed_up(tmp_path: Path):
    with served(tmp_path, [bright_predictor(FLAT)], queue=100) as server:

        def ask(side: int) -> bool:
            pixels = np.zeros((side, 30), np.uint8)
            pixels[side // 2 :, side % 30 :] = 255
            path = picture(tmp_path / f"{side}.png", pixels)
            files = {"file": ("same.png", path.read_bytes())}
            reply = httpx.post(f"{server.address}/v1/predict/bright", files=files, timeout=60)
            assert reply.status_code == 200, reply.text
            expected = server.site.models.named("bright").predict(path, case="same").mask
            shown = picture_of(reply.content)
            return shown.shape == expected.shape and bool((shown == expected).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(20, 52)))
        assert server.empties()


def picture_of(content: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(content)))
