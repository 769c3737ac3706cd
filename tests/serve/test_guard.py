"""Strangers, wrong tokens, large, slow and lying requests, and names that are none."""

from __future__ import annotations

import gzip
import io
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest

from cdal.recipes.recipe import DataSettings
from cdal.runtime.errors import UserError
from cdal.runtime.memory import held
from cdal.serve import connection, guard
from cdal.serve.names import safe_name
from cdal.serve.settings import Serving
from helpers.files import picture
from helpers.segmenters import bright_predictor
from helpers.serving import Running, raw, raw_get, served

TOKEN = "a-long-secret"
FLAT = DataSettings(spatial_dims=2, size=(16, 16))
SOLID = DataSettings(spatial_dims=3, size=(16, 16, 16), spacing=(1.0, 1.0, 1.0))
HTML = "<img src=x onerror=alert(1)>"
TRAVERSALS = ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "..\\..\\x", "%00", "..")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    models = [bright_predictor(FLAT, ("background", HTML)), bright_predictor(SOLID)]
    data = tmp_path_factory.mktemp("data")
    picture(data / "a.png", np.zeros((20, 20), np.uint8))
    root = tmp_path_factory.mktemp("server")
    with served(root, models, root / "results", data, upload=1, names=("cdal.example",)) as server:
        yield server


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with served(tmp_path_factory.mktemp("secret"), token=TOKEN) as server:
        yield server


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("127.0.0.1:1", True),
        ("[::1]:8000", True),
        ("cdal.example", True),
        ("CDAL.example:443", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("192.168.0.7", False),
        ("", False),
        ("[", False),
    ],
)
def test_a_server_answers_to_its_own_names_only(running: Running, host: str, known: bool):
    reply = running.client.get("/v1/models", headers={"Host": host})
    assert reply.status_code == (200 if known else 403)
    assert known or "name" in reply.json()["detail"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1", ""])
def test_pages_of_others_change_nothing(running: Running, origin: str):
    path = "/v1/cases/none"
    for method in ("POST", "PUT", "DELETE"):
        reply = running.client.request(method, path, headers={"Origin": origin})
        assert reply.status_code == 403, reply.text
    own = running.client.delete(path, headers={"Origin": running.address})
    assert own.status_code == 404
    reply = running.client.get("/v1/models", headers={"Origin": origin})
    assert "access-control-allow-origin" not in reply.headers
    assert running.client.options("/v1/models", headers={"Origin": origin}).status_code == 405


def test_every_reply_has_the_headers_that_keep_browsers_here(running: Running):
    for path in ("/", "/docs", "/v1/models", "/v1/none", "/metrics"):
        headers = running.client.get(path).headers
        policy = headers["content-security-policy"]
        assert (
            "default-src 'self'" in policy and "http" not in policy and "unsafe-eval" not in policy
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_a_token_is_needed_for_all_but_the_sign_of_life(secret: Running):
    with httpx.Client(base_url=secret.address) as stranger:
        for path in (
            "/",
            "/v1/models",
            "/v1/cases",
            "/docs",
            "/openapi.json",
            "/metrics",
            "/info/",
        ):
            assert stranger.get(path).status_code == 401, path
        for path in ("/v1/health", "/healthz"):
            assert stranger.get(path).status_code == 200
        for given in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN):
            reply = stranger.get("/v1/models", headers={"Authorization": given})
            assert reply.status_code == 401 and TOKEN not in reply.text
        assert stranger.get("/?token=wrong").status_code == 401
        assert stranger.get("/v1/models", cookies={"cdal": TOKEN}).status_code == 401
    assert secret.client.get("/v1/models").status_code == 200


def test_a_browser_brings_the_token_once(secret: Running):
    with httpx.Client(base_url=secret.address) as browser:
        reply = browser.get(f"/?token={TOKEN}")
        assert reply.status_code == 303 and reply.headers["location"] == "/"
        cookie = reply.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
        assert browser.get("/v1/models").status_code == 200
        refused = browser.delete("/v1/cases/x", headers={"Origin": "http://evil.example"})
        assert refused.status_code == 403


def test_other_computers_need_a_token():
    for host in ("0.0.0.0", "192.168.0.7", "::", "myhost"):
        with pytest.raises(UserError, match="--token"):
            Serving(host=host)
        Serving(host=host, token=TOKEN)
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        Serving(host=host)
    with pytest.raises(UserError, match="8 characters"):
        Serving(token="short")


def test_large_uploads_are_refused_before_and_while_they_come(running: Running):
    reply = running.client.post("/v1/predict/bright", files={"file": ("a.png", bytes(2**21))})
    assert reply.status_code == 413 and "MiB" in reply.json()["detail"]

    def chunks() -> Iterator[bytes]:  # of a length that is not told
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        for _ in range(40):
            yield bytes(2**16)

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    try:
        reply = running.client.post("/v1/predict/bright", content=chunks(), headers=kind)
        assert reply.status_code == 413
    except httpx.TransportError:
        pass  # it was refused while the client was still sending
    reply = running.client.post("/v1/cases/x/predict", json={"model": "x" * 2**21})
    assert reply.status_code == 413
    assert running.empties()


def test_slow_bodies_and_endless_headers_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(guard, "_GRACE", 0.3)
    monkeypatch.setattr(connection, "_MOST_SECONDS", 0.3)
    head = b"POST /v1/predict/bright HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    with served(tmp_path, [bright_predictor(FLAT)]) as server:
        answer = raw(server.port, head + b"--b\r\n")
        assert answer.startswith(b"HTTP/1.1 408") and b"KiB a second" in answer
        assert raw(server.port, b"GET / HTTP/1.1\r\nX-Slow: ") == b""
        assert raw(server.port, b"") == b""
        assert server.empties()
        with socket.create_connection(("127.0.0.1", server.port)) as one:  # quick ones stay
            for _ in range(3):
                one.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = b""
                while not answer.endswith(b"}"):
                    answer += one.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200")


def bomb(side: int) -> bytes:
    """A PNG of very many black pixels in very few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def terabyte() -> bytes:
    """A NIfTI whose header promises a terabyte."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((10_000, 10_000, 10_000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return gzip.compress(header.binaryblock + bytes(1000))


def test_images_that_promise_too_much_are_refused_before_they_are_decoded(
    running: Running, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CDAL_MAX_VALUES", "1e6")
    before = held("VmHWM")
    for model, name, content in (
        ("bright", "bomb.png", bomb(20_000)),
        ("bright-2", "huge.nii.gz", terabyte()),
        ("bright-2", "zeros.nii.gz", gzip.compress(terabyte()[:400] + bytes(2**24))),
    ):
        assert len(content) < 2**20
        reply = running.client.post(f"/v1/predict/{model}", files={"file": (name, content)})
        assert reply.status_code == 422, (name, reply.text)
    assert held("VmHWM") - before < 0.2
    assert running.empties()


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_are_never_paths(running: Running, name: str):
    quoted = name.replace("\\", "%5c").replace("/", "%2f")
    for path in (
        f"/v1/cases/{quoted}",
        f"/v1/cases/{quoted}/layers/image",
        f"/v1/cases/{quoted}/files/mask",
        f"/v1/jobs/{quoted}",
        f"/{quoted}",
        f"/vendor/{quoted}",
    ):
        answer = raw_get(running.port, path)
        assert answer.split()[1] in (b"307", b"400", b"404", b"405"), (path, answer)
        assert b"root:" not in answer
    (case,) = [
        c["id"] for c in running.client.get("/v1/cases").json()["cases"] if c["name"] == "a.png"
    ]
    for path in (
        f"/v1/cases/{case}/files/{quoted}",
        f"/v1/cases/{case}/layers/{quoted}",
        f"/v1/cases/{case}/tiles/0/{quoted}",
    ):
        assert raw_get(running.port, path).split()[1] in (b"400", b"404"), path


@pytest.mark.parametrize(
    "name", [*TRAVERSALS, HTML + ".png", "a" * 5000 + ".png", ".bashrc", "~/x"]
)
def test_names_of_uploads_stay_in_their_folder(running: Running, name: str):
    content = io.BytesIO()
    picture_of = picture(running.site.uploads.root.parent / "x.png", np.eye(20, dtype=np.uint8))
    content.write(picture_of.read_bytes())
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
    body += name.encode() + b'"\r\n\r\n' + content.getvalue() + b"\r\n--b--\r\n"
    outside = sorted(running.site.uploads.root.parent.rglob("*"))
    reply = running.client.post(
        "/v1/predict/bright?wait=false",
        content=body,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert reply.status_code in (202, 422), reply.text
    if reply.status_code == 202:
        upload = running.site.uploads.named(reply.json()["case"])
        assert [path.parent for path in upload.inputs] == [upload.folder / "image"]
        running.wait_for(reply.json()["job"])
        told = running.client.get(f"/v1/cases/{upload.id}")
        assert told.headers["content-type"] == "application/json"
        assert "<" not in told.json()["name"] and "/" not in told.json()["name"]
        running.client.delete(f"/v1/cases/{upload.id}")
    assert running.empties()
    assert sorted(running.site.uploads.root.parent.rglob("*")) == outside


def test_html_in_names_of_classes_is_text(running: Running):
    reply = running.client.get("/v1/models")
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["models"][0]["labels"][0]["name"] == HTML
    assert "<img" not in running.client.get("/docs").text


def test_ordinary_names_stay_as_they_are():
    for name in ("a.nii.gz", "Röntgen Thorax (2).png", "1.2.840.10008.dcm", "胸部.tif", "a+b-c_d"):
        assert safe_name(name) == name
    for name in ("", "...", "/", "..", "-", "   "):
        assert safe_name(name) == "image"
    assert safe_name("../a b/c:d.png") == "c_d.png"
    assert safe_name("x" * 300 + ".nii.gz").endswith("x.nii.gz")
    assert len(safe_name("ä" * 300 + ".nii.gz").encode()) <= 120


def test_too_many_uploads_are_refused_and_take_no_room(tmp_path: Path):
    content = picture(tmp_path / "x.png", np.eye(20, dtype=np.uint8)).read_bytes()
    with served(tmp_path, [bright_predictor(FLAT)], uploads=5, queue=100) as server:
        seen = []
        for _ in range(40):
            files = {"file": ("x.png", content)}
            seen.append(server.client.post("/v1/predict/bright?wait=false", files=files))
        assert [reply.status_code for reply in seen] == [202] * 5 + [429] * 35
        assert int(seen[-1].headers["retry-after"]) > 0
        assert len(list(server.site.uploads.root.iterdir())) == 5
        for reply in seen[:5]:
            server.client.delete(f"/v1/cases/{reply.json()['case']}")
        assert server.empties()


@pytest.mark.slow
def test_ten_thousand_sessions_take_no_more_room_than_a_few(tmp_path: Path):
    content = picture(tmp_path / "x.png", np.eye(20, dtype=np.uint8)).read_bytes()
    with served(tmp_path, [bright_predictor(FLAT)], uploads=50) as server:
        before, statuses = held("VmRSS"), set()
        for _ in range(10_000):
            reply = server.client.put("/session/", files={"files": ("x.png", content)})
            statuses.add(reply.status_code)
        assert statuses == {200, 429}
        assert len(list(server.site.uploads.root.iterdir())) == 50
        assert held("VmRSS") - before < 0.1
        assert server.client.get("/v1/health").status_code == 200


def test_uploads_expire(tmp_path: Path):
    content = picture(tmp_path / "x.png", np.eye(20, dtype=np.uint8)).read_bytes()
    with served(tmp_path, [bright_predictor(FLAT)], idle=0.01) as server:
        files = {"file": ("x.png", content)}
        reply = server.client.post("/v1/predict/bright?wait=false", files=files)
        case = reply.json()["case"]
        server.wait_for(reply.json()["job"])
        for _ in range(100):
            if not list(server.site.uploads.root.iterdir()):
                break
            time.sleep(0.1)
        assert server.client.get(f"/v1/cases/{case}").status_code == 404
        assert server.empties()
