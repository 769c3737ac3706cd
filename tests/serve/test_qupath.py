"""The requests of QuPath's extension for MONAI Label, as its source sends them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from cdal.imaging.annotations import draw
from cdal.imaging.annotations.asap import read
from cdal.imaging.formats import read_label
from cdal.recipes.recipe import DataSettings
from helpers.annotations import picture_of
from helpers.files import disc, picture
from helpers.segmenters import bright_predictor
from helpers.serving import Running, raw, served

FLAT = DataSettings(spatial_dims=2, size=(16, 16))
ASKED = {
    "level": 0,
    "location": [0, 0],
    "size": [0, 0],
    "tile_size": [1024, 1024],
    "min_poly_area": 30,
    "params": {"foreground": [], "background": [], "max_workers": 1},
}


def balls(corners: list[tuple[int, int]]) -> np.ndarray:
    pixels = np.full((200, 240), 20, np.uint8)
    for top, left in corners:
        pixels[top : top + 40, left : left + 40] += 200 * disc(40, 12).astype(np.uint8)
    return pixels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    picture(root / "slide-1.png", balls([(10, 20), (100, 150), (150, 60)]))
    return root


@pytest.fixture
def running(tmp_path: Path, data: Path) -> Iterator[Running]:
    models = [bright_predictor(FLAT, ("background", "nuclei"))]
    with served(tmp_path, models, tmp_path / "results", data) as server:
        yield server


def drawn(xml: str, shape: tuple[int, int], folder: Path) -> np.ndarray:
    path = folder / "reply.xml"
    path.write_text(xml, encoding="utf-8")
    segments = list(read(path, picture_of(shape), "a.png"))
    return draw(segments, shape, ("background", "nuclei"))[0]


def test_a_patch_that_is_sent_is_outlined_from_its_own_corner(
    running: Running, data: Path, tmp_path: Path
):
    info = running.client.get("/info/").json()["models"]["bright"]
    assert info["labels"] == {"nuclei": 1} and info["dimension"] == 2
    content = (data / "slide-1.png").read_bytes()
    reply = running.client.post(
        "/infer/wsi_v2/bright?output=asap",
        files={"file": ("patch.png", content)},
        data={"wsi": json.dumps(ASKED)},
    )
    assert reply.status_code == 200, reply.text
    expected = running.site.models.named("bright").predict(data / "slide-1.png", "patch").mask
    np.testing.assert_array_equal(drawn(reply.text, (200, 240), tmp_path), expected)
    for one in ElementTree.fromstring(reply.text).iter("Annotation"):
        assert one.get("Name") == "nuclei" and int(one.get("Color", "").removeprefix("#"), 16)
    assert running.empties()


def test_a_part_of_a_picture_of_the_server_is_outlined_where_it_lies(
    running: Running, tmp_path: Path
):
    """QuPath sends JSON without a Content-Type."""
    assert running.client.head("/datastore/image?image=slide-1").status_code == 200
    body = json.dumps({**ASKED, "location": [130, 80], "size": [100, 90]}).encode()
    head = b"POST /infer/wsi/bright?output=asap&image=slide-1 HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    answer = raw(running.port, head + body, 60)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    mask = drawn(answer.partition(b"\r\n\r\n")[2].decode(), (200, 240), tmp_path)
    inside = mask[80:170, 130:230].copy()
    mask[80:170, 130:230] = 0
    assert not mask.any()
    centre = inside[100 - 80 + 20, 150 - 130 + 20]
    assert centre == 1 and 300 < inside.sum() < 600  # one disc of radius 12
    assert running.empties()


@pytest.mark.parametrize(
    "change",
    [{"location": [500, 0]}, {"level": 3}, {"location": [-1, 0]}, {"size": "x"}, {"location": [1]}],
)
def test_parts_that_are_not_there_are_refused(running: Running, change: dict[str, object]):
    reply = running.client.post("/infer/wsi/bright?image=slide-1", json={**ASKED, **change})
    assert reply.status_code == 422 and reply.json()["detail"]
    assert running.empties()


def test_the_next_patch_is_the_most_uncertain_one(running: Running, tmp_path: Path):
    case = running.client.get("/v1/cases").json()["cases"][0]["id"]
    asked = {"image": "slide-1", "patch_size": [80, 50], "image_size": [240, 200]}
    reply = running.client.post("/activelearning/uncertainty", content=json.dumps(asked))
    assert reply.json()["bbox"] == [80, 75, 80, 50]  # nothing is known yet: the middle
    job = running.client.post(f"/v1/cases/{case}/predict", json={"save": ["mask", "uncertainty"]})
    assert running.wait_for(job.json()["job"])["state"] == "done"
    values = np.zeros((200, 240), np.uint16)
    values[130:140, 90:100] = 30000
    path = tmp_path / "results" / "slide-1_uncertainty.png"
    picture(path, values)
    reply = running.client.post("/activelearning/uncertainty", content=json.dumps(asked))
    assert reply.json()["bbox"] == [80, 100, 80, 50]
    asked = {"image": "", "patch_size": [1024, 1024], "image_size": [0, 0]}
    sample = running.client.post("/activelearning/first", content=json.dumps(asked)).json()
    assert sample["id"] == case and sample["path"].endswith("slide-1.png")


def test_outlines_that_were_drawn_become_a_corrected_mask(running: Running, tmp_path: Path):
    xml = """<?xml version="1.0"?><ASAP_Annotations><Annotations X="0" Y="0" W="0" H="0">
    <Annotation Name="Nuclei" Type="Polygon" PartOfGroup="Nuclei" Color="#ff0000"><Coordinates>
    <Coordinate Order="0" X="10" Y="20"/><Coordinate Order="1" X="30" Y="20"/>
    <Coordinate Order="2" X="30" Y="50"/><Coordinate Order="3" X="10" Y="50"/>
    </Coordinates></Annotation></Annotations></ASAP_Annotations>"""
    reply = running.client.put(
        "/datastore/label?image=slide-1",
        files={"label": ("slide-1.xml", xml.encode())},
        data={"params": "{}"},
    )
    assert reply.json() == {"image": "slide-1", "label": "slide-1"}, reply.text
    saved = read_label(tmp_path / "results" / "reviewed" / "slide-1.png").array[0]
    expected = np.zeros((200, 240), int)
    expected[20:50, 10:30] = 1
    np.testing.assert_array_equal(saved, expected)
    other = xml.replace("Nuclei", "Stroma").encode()
    reply = running.client.put("/datastore/label?image=slide-1", files={"label": ("a.xml", other)})
    assert reply.status_code == 422 and "nuclei" in reply.json()["detail"]


def test_geojson_keeps_holes_for_the_script(running: Running):
    """What `clients/qupath/cdal.groovy` sends and reads."""
    pixels = balls([(10, 20)])
    pixels[25:35, 35:45] = 20
    path = picture(running.site.uploads.root.parent / "hole.png", pixels)
    reply = httpx.post(
        f"{running.address}/v1/predict/bright",
        files={"file": ("region.png", path.read_bytes())},
        data={"save": "geojson"},
        timeout=60,
    )
    assert reply.status_code == 200 and "chunked" not in reply.headers.get("transfer-encoding", "")
    rings = [one["geometry"]["coordinates"] for one in reply.json()["features"]]
    assert any(len(one) == 2 for one in rings)
