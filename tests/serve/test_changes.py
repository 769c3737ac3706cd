"""Images that are replaced while the server runs, and files of the server that are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cdal.recipes.recipe import DataSettings
from cdal.serve import changes
from helpers.files import picture, write_series
from helpers.review import row, write_record, write_results
from helpers.segmenters import bright_predictor
from helpers.serving import Running, served

FLAT = DataSettings(spatial_dims=2, size=(16, 16))
SOLID = DataSettings(spatial_dims=3, size=(16, 16, 16), spacing=(1.0, 1.0, 1.0))


def drawn(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (side, side)).astype(np.uint8)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    for number, name in enumerate(("a.png", "b.png")):
        picture(tmp_path / "data" / name, drawn(20, number))
    with served(
        tmp_path, [bright_predictor(FLAT)], tmp_path / "results", tmp_path / "data"
    ) as server:
        yield server


def ids(running: Running) -> dict[str, str]:
    return {case["name"]: case["id"] for case in running.client.get("/v1/cases").json()["cases"]}


def segment(running: Running, name: str) -> str:
    """Segment a case, and return its address."""
    case = ids(running)[name]
    asked = {"save": ["mask", "geojson"] if name.endswith(".png") else ["mask"]}
    job = running.client.post(f"/v1/cases/{case}/predict", json=asked).json()["job"]
    assert running.wait_for(job)["state"] == "done"
    return f"/v1/cases/{case}"


def test_results_of_an_image_that_was_replaced_are_not_taken_for_those_of_the_new_one(
    running: Running, tmp_path: Path
):
    client = running.client
    case, other = segment(running, "a.png"), segment(running, "b.png")
    assert client.get(case).json()["state"] == "segmented"
    assert client.put(f"{case}/review", json={"verdict": "accept"}).status_code == 200
    picture(tmp_path / "new.png", drawn(24, 5))
    (tmp_path / "new.png").replace(tmp_path / "data" / "a.png")
    told = client.get(case).json()
    assert told["state"] == "changed" and "Segment it again" in told["message"]
    assert told["layers"] == ["image"] and told["shape"] == [24, 24]
    image = {"content": (tmp_path / "data" / "a.png").read_bytes()}
    for method, path, content in (
        ("PUT", f"{case}/review", {"json": {"verdict": "accept"}}),
        ("PUT", f"{case}/correction", image),
        ("GET", f"{case}/layers/mask", {}),
        ("GET", f"{case}/layers/reviewed", {}),
        ("GET", f"{case}/objects", {}),
        ("GET", "/datastore/label?label=a.png&tag=original", {}),
    ):
        reply = client.request(method, path, **content)
        assert reply.status_code == 409 and "a.png has changed" in reply.json()["detail"], path
    assert client.get(f"{case}/layers/image").status_code == 200
    assert client.get(other).json()["state"] == "segmented"
    assert client.get("/v1/next").json()["case"] == other.split("/")[-1]
    segment(running, "a.png")
    told = client.get(case).json()
    assert told["state"] == "segmented" and told["message"] == ""
    assert told["review"] is None  # it was of the other image
    assert client.put(f"{case}/review", json={"verdict": "accept"}).json()["verdict"] == "accept"


def test_an_image_that_was_copied_is_the_same(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    case, image = segment(running, "a.png"), tmp_path / "data" / "a.png"
    shutil.copyfile(image, tmp_path / "copy.png")
    (tmp_path / "copy.png").replace(image)
    assert running.client.get(case).json()["state"] == "segmented"
    image.unlink()
    assert running.client.get(case).json()["state"] == "segmented"  # missing, not another
    picture(image, drawn(20, 7))
    assert running.client.get(case).json()["state"] == "changed"  # though its shape is the same
    content = json.loads((tmp_path / "results" / "predictions.json").read_text())
    content["predictions"][0]["when"] = "2999-01-01T00:00:00+00:00"
    (tmp_path / "results" / "predictions.json").write_text(json.dumps(content))
    monkeypatch.setattr(changes, "digest_of", None)  # what was written before is not read
    assert running.client.get(case).json()["state"] == "segmented"


def test_a_slice_of_a_series_counts(tmp_path: Path):
    folder = write_series(tmp_path / "data" / "chest", np.arange(16 * 18 * 20).reshape(16, 18, 20))
    other = write_series(tmp_path / "other", np.ones((16, 18, 20), int))
    models, results = [bright_predictor(SOLID)], tmp_path / "results"
    with served(tmp_path, models, results, tmp_path / "data") as server:
        case = segment(server, "chest")
        assert server.client.get(case).json()["state"] == "segmented"
        slices = [sorted(one.iterdir()) for one in (other, folder)]
        shutil.copyfile(slices[0][3], slices[1][3])
        assert server.client.get(case).json()["state"] == "changed"
        slices[1][3].write_bytes(b"damaged")
        assert server.client.get(case).json()["state"] == "changed"


def test_a_mask_of_another_shape_is_not_accepted_where_no_checksum_is_known(tmp_path: Path):
    images, results = tmp_path / "images", tmp_path / "results"
    results.mkdir()
    rows = [
        row(picture(images / f"c{k}.png", drawn(40)), **write_results(results, f"c{k}", side, 5))
        for k, side in enumerate((40, 41))
    ]
    write_record(results, rows)
    with served(tmp_path, (), results) as server:
        said = {
            name: server.client.put(f"/v1/cases/{case}/review", json={"verdict": "accept"})
            for name, case in ids(server).items()
        }
    assert said["c0.png"].status_code == 200
    assert said["c1.png"].status_code == 422
    assert "Segment it again" in said["c1.png"].json()["detail"]


def test_one_damaged_review_concerns_its_case_only(running: Running, tmp_path: Path):
    client, file = running.client, tmp_path / "results" / "review.json"
    case, other = segment(running, "a.png"), segment(running, "b.png")
    for one in (case, other):
        client.put(f"{one}/review", json={"verdict": "accept"})
    content = json.loads(file.read_text())
    content["cases"]["a.png"]["verdict"] = "perhaps"
    file.write_text(json.dumps(content))
    damaged, fine = client.get(case).json(), client.get(other).json()
    assert damaged["review"] is None and fine["review"]["verdict"] == "accept"
    assert "review.json" in damaged["warnings"][-1] and str(tmp_path) not in str(damaged)
    assert fine["warnings"] == []
    assert len(client.get("/v1/cases").json()["cases"]) == 2
    assert client.put(f"{other}/review", json={"verdict": "reject"}).status_code == 200
    assert client.get("/v1/next").json()["case"] == case.split("/")[-1]
    assert client.get("/info/").status_code == client.get("/datastore/?output=all").status_code
    assert client.put(f"{case}/review", json={"verdict": "accept"}).status_code == 200
    assert client.get(case).json()["warnings"] == []


@pytest.mark.parametrize("content", ["{", "[1]", '{"version": 9}', '{"version": 1, "cases": 3}'])
def test_reviews_that_cannot_be_read_hide_no_case(running: Running, tmp_path: Path, content: str):
    client, file = running.client, tmp_path / "results" / "review.json"
    case = segment(running, "a.png")
    file.write_text(content)
    (warning,) = client.get(case).json()["warnings"]
    assert "review.json" in warning
    for path in ("/v1/cases", "/v1/next", "/info/", "/datastore/?output=all"):
        assert client.get(path).status_code == 200, path
    refused = client.put(f"{case}/review", json={"verdict": "accept"})
    assert refused.status_code == 422 and "review.json" in refused.json()["detail"]
    assert file.read_text() == content  # a person may still correct it


def test_a_record_that_cannot_be_read_hides_no_other_case(running: Running, tmp_path: Path):
    client = running.client
    segment(running, "a.png")
    files = {"file": ("sent.png", (tmp_path / "data" / "b.png").read_bytes())}
    sent = client.post("/v1/predict/bright?wait=false", files=files).json()
    running.wait_for(sent["job"])
    for folder in (tmp_path / "results", running.site.uploads.named(sent["case"]).results):
        (folder / "predictions.json").write_text('{"predictions": ')
    listed = client.get("/v1/cases").json()
    states = {case["name"]: case["state"] for case in listed["cases"]}
    assert states == {"a.png": "new", "b.png": "new", "sent.png": "failed"}
    (fault,) = listed["faults"]
    assert fault.startswith("predictions.json cannot be read") and str(tmp_path) not in fault
    assert "predictions.json" in client.get(f"/v1/cases/{sent['case']}").json()["message"]
    assert client.get("/v1/next").status_code == 200
    segment(running, "b.png")  # which writes the record anew
    assert client.get("/v1/cases").json()["faults"] == []
    assert client.get(f"/v1/cases/{ids(running)['a.png']}").json()["state"] == "segmented"


def test_a_folder_of_images_that_goes_is_told(running: Running, tmp_path: Path):
    segment(running, "a.png")
    (tmp_path / "data").rename(tmp_path / "moved")
    listed = running.client.get("/v1/cases").json()
    assert [case["name"] for case in listed["cases"]] == ["a.png"]
    assert "data" in listed["faults"][0]
    assert running.client.get("/v1/next").status_code == 200
