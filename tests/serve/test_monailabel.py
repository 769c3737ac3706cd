"""The requests of 3D Slicer's client for MONAI Label, sent raw and by the client itself.

The client is not ours: set CDAL_SLICER_CLIENT to its `client.py` (MONAI Label, plugins/slicer/
MONAILabel/MONAILabelLib). It needs Python 3.12 or older and `requests`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest

from cdal.datasets.reviews import read_reviews
from cdal.imaging.formats import read_label
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.inference.sampling import Sampling
from helpers.files import save_nifti
from helpers.serving import Running, served

OBLIQUE = np.array([[0.2, -1.2, 0, 5], [0.1, 0.1, 0.8, -3], [1, 0.2, 0.1, 2], [0, 0, 0, 1.0]])
PARAMS = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "me", "votes": 3}
TOKEN = "a-long-secret"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in ("one", "two"):
        save_nifti(root / f"{name}.nii.gz", rng.random((25, 21, 17)), OBLIQUE)
    return root


@pytest.fixture
def running(tmp_path: Path, data: Path, volume_model: Path) -> Iterator[Running]:
    with served(tmp_path, [volume_model], tmp_path / "results", data) as server:
        yield server


def expected(volume_model: Path, image: Path, out: Path, votes: int = 3) -> np.ndarray:
    predict(load(volume_model, Sampling(votes=votes), "cpu"), [image], out)
    return read_label(out / f"{image.name.split('.')[0]}_mask.nii.gz").array[0]


def multipart(fields: dict[str, str], files: dict[str, tuple[str, bytes]]) -> tuple[bytes, bytes]:
    """A form as the client writes it; returns its content type and its body."""
    limit, body = "----------lImIt_of_THE_fIle_eW_$", b""
    for name, value in fields.items():
        head = f'--{limit}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        body += f"{head}{value}\r\n".encode()
    for name, (file, content) in files.items():
        head = f'--{limit}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
        body += (
            head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"
        )
    return f"multipart/form-data; boundary={limit}".encode(), body + f"--{limit}--\r\n\r\n".encode()


def ask(server: Running, method: str, path: str, kind: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Head and body of a reply, read from the socket without knowing of chunks."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode()
    head += b"content-type: " + kind + b"\r\ncontent-length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        connection.sendall(head + body)
        file = connection.makefile("rb")
        lines = b""
        while (line := file.readline()) not in (b"\r\n", b""):
            lines += line
        (length,) = [
            int(one.split(b":")[1])
            for one in lines.lower().splitlines()
            if b"content-length" in one
        ]
        return lines, file.read(length)


def parts_of(head: bytes, body: bytes) -> dict[str, tuple[bytes, bytes]]:
    """Head and content of each part of a reply, by its name."""
    boundary = b"--" + head.split(b"boundary=")[1].split(b"\r\n")[0]
    found = {}
    for part in body.split(boundary)[1:-1]:
        about, _, content = part[2:-2].partition(b"\r\n\r\n")
        found[about.split(b'name="')[1].split(b'"')[0].decode()] = (about, content)
    assert body.endswith(boundary + b"--\r\n")
    return found


def test_slicers_requests_one_after_the_other(
    running: Running, data: Path, volume_model: Path, tmp_path: Path
):
    client, image = running.client, data / "one.nii.gz"
    assert client.get("/auth/").json()["enabled"] is False
    info = client.get("/info/").json()
    assert "config" not in info and info["labels"] == ["a", "b"]
    assert info["models"]["volume"]["type"] == "segmentation"
    assert info["models"]["volume"]["labels"] == {"a": 1, "b": 2}
    assert info["models"]["volume"]["dimension"] == 3
    assert info["datastore"]["total"] == 2 and info["datastore"]["completed"] == 0
    assert client.get("/train/?check_if_running=true").status_code == 404
    upload = client.put(
        "/session/", files=[("files", ("v.nii.gz", image.read_bytes()))], data={"client_id": "me"}
    )
    session = upload.json()["session_id"]
    assert client.get(f"/session/{session}").status_code == 200
    kind, body = multipart({"params": json.dumps(PARAMS)}, {})
    head, content = ask(running, "POST", f"/infer/volume?image=v&session_id={session}", kind, body)
    assert b" 200 " in head and b"transfer-encoding" not in head.lower()
    parts = parts_of(head, content)
    assert b"filename" not in parts["params"][0] and b'filename="mask.nrrd"' in parts["image"][0]
    saved = tmp_path / "reply.nrrd"
    saved.write_bytes(parts["image"][1])
    predicted = expected(volume_model, copied(image, tmp_path / "v.nii.gz"), tmp_path / "out")
    reply = read_label(saved)
    np.testing.assert_array_equal(reply.array[0], predicted)
    np.testing.assert_allclose(reply.affine, nib.load(image).affine, atol=1e-5)
    told = json.loads(parts["params"][1])
    present = [k for k in (1, 2) if (predicted == k).any()]
    assert told["label_names"] == {"ab"[k - 1]: k for k in present}
    assert set(told["cdal"]["expected_dice"]) == {"a", "b"}
    assert client.delete(f"/session/{session}").status_code == 200
    assert client.get(f"/session/{session}").status_code == 404
    assert running.empties()


def copied(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    return target


def test_the_loop_of_labelling(running: Running, data: Path, tmp_path: Path):
    client = running.client
    done: list[str] = []
    for _ in range(2):
        sample = client.post("/activelearning/first", json={"client_id": "me"}).json()
        image = client.get(f"/datastore/image?image={sample['id']}")
        assert image.content == (data / sample["name"]).read_bytes()
        label = np.zeros((25, 21, 17), np.uint8)
        label[3:9, 4:8, 5], label[10:12, 4:8, 5] = 1, 2
        content = nib.Nifti1Image(label, nib.load(data / sample["name"]).affine).to_bytes()
        info = [{"name": "b", "idx": 2}, {"name": "a", "idx": 3}]  # the first segment was left out
        reply = client.put(
            f"/datastore/label?image={sample['id']}",
            files={"label": ("x.nii", content)},
            data={"params": json.dumps({"label_info": info, "model": "volume"})},
        )
        assert reply.json() == {"image": sample["id"], "label": sample["id"]}, reply.text
        saved = tmp_path / "results" / "reviewed" / sample["name"]
        np.testing.assert_array_equal(
            read_label(saved).array[0], np.array([0, 2, 1], np.uint8)[label]
        )
        done.append(sample["id"])
    assert len(set(done)) == 2
    assert client.post("/activelearning/first", json={}).json() == {}
    assert client.get("/info/").json()["datastore"]["completed"] == 2
    objects = client.get("/datastore/?output=all").json()["objects"]
    assert set(objects[done[0]]["labels"]) == {"final"}
    label = client.get(f"/datastore/label?label={done[0]}&tag=final")
    assert "filename=" in label.headers["content-disposition"] and label.status_code == 200
    assert client.get(f"/datastore/label?label={done[0]}&tag=original").status_code == 404
    assert len(read_reviews(tmp_path / "results").cases) == 2


def test_an_image_that_is_sent_is_found_by_the_name_that_the_client_gave_it(
    running: Running, data: Path
):
    client, content = running.client, (data / "one.nii.gz").read_bytes()
    name = "../Jane Doe"
    for _ in range(2):  # the second takes the place of the first
        reply = client.put(
            "/datastore/", params={"image": name}, files={"file": ("a.nii.gz", content)}
        )
        assert reply.json() == {"image": name}
    assert len(running.site.uploads) == 1
    assert client.head("/datastore/image", params={"image": name}).status_code == 200
    assert client.get("/datastore/image", params={"image": name}).content == content
    assert client.head("/datastore/image?image=one").status_code == 200  # of the server's own
    for other in ("../one.nii.gz", "", "none", "/etc/passwd"):
        assert client.head("/datastore/image", params={"image": other}).status_code == 404
    kind, body = multipart({"params": json.dumps(PARAMS)}, {})
    head, _ = ask(running, "POST", "/infer/volume?image=..%2FJane+Doe", kind, body)
    assert b" 200 " in head


def test_a_mask_that_does_not_fit_is_refused(running: Running, data: Path):
    client = running.client
    sample = client.post("/activelearning/uncertainty", content=b"").json()["id"]
    for array, params in (
        (np.zeros((5, 5, 5), np.uint8), "{}"),
        (np.full((25, 21, 17), 3, np.uint8), "{}"),
        (np.ones((25, 21, 17), np.uint8), '{"label_info": [{"name": "liver", "idx": 1}]}'),
        (np.ones((25, 21, 17), np.uint8), "{"),
    ):
        content = nib.Nifti1Image(array, OBLIQUE).to_bytes()
        reply = client.put(
            f"/datastore/label?image={sample}",
            files={"label": ("x.nii", content)},
            data={"params": params},
        )
        assert reply.status_code == 422 and reply.json()["detail"]


def test_clients_sign_in_with_the_token(tmp_path: Path):
    with served(tmp_path, token=TOKEN) as server, httpx.Client(base_url=server.address) as client:
        assert client.get("/auth/").json()["enabled"] is True
        assert client.get("/auth/token/valid").status_code == 401
        form = {"username": "x", "password": "wrong", "grant_type": "password"}
        assert client.post("/auth/token", data=form).status_code == 401
        answer = client.post("/auth/token", data={**form, "password": TOKEN}).json()
        headers = {"Authorization": f"{answer['token_type']} {answer['access_token']}"}
        assert client.get("/auth/token/valid", headers=headers).status_code == 200
        assert client.get("/info/", headers=headers).status_code == 200


@pytest.fixture(scope="module")
def slicer() -> ModuleType:
    """The client of the Slicer extension, unmodified."""
    path = os.environ.get("CDAL_SLICER_CLIENT", "")
    if not path:
        pytest.skip("set CDAL_SLICER_CLIENT to the client.py of MONAI Label's Slicer extension")
    if sys.version_info >= (3, 13):
        pytest.skip("the client needs Python's cgi, which 3.13 no longer has")
    pytest.importorskip("requests")
    spec = importlib.util.spec_from_file_location("slicer_client", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about cgi
        spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_slicers_own_client(slicer: Any, data: Path, volume_model: Path, tmp_path: Path):
    image, downloads = data / "two.nii.gz", tmp_path / "downloads"
    downloads.mkdir()
    with served(tmp_path, [volume_model], tmp_path / "results", data, token=TOKEN) as server:
        client = slicer.MONAILabelClient(server.address, str(downloads), "me")
        assert client.auth_enabled()
        client.update_auth(client.auth_token("me", TOKEN))
        assert client.auth_valid_token()
        assert client.info()["models"]["volume"]["dimension"] == 3
        assert client.train_status(check_if_running=True) is False
        session = client.create_session(str(image))["session_id"]
        assert client.get_session(session)
        file, params = client.infer("volume", "two", dict(PARAMS), session_id=session)
        predicted = expected(volume_model, image, tmp_path / "out")
        np.testing.assert_array_equal(read_label(Path(file)).array[0], predicted)
        assert params["label_names"] and params["cdal"]["seconds"] >= 0
        client.remove_session(session)
        assert client.upload_image(str(image), "my volume")["image"] == "my volume"
        file, _ = client.infer("volume", "my volume", dict(PARAMS))
        sample = client.next_sample("uncertainty", {})
        assert client.datastore()["objects"][sample["id"]]["image"]["ext"] == ".nii.gz"
        file, _ = client.infer("volume", sample["id"], dict(PARAMS))
        original = client.download_label(sample["id"], "original")
        np.testing.assert_array_equal(
            read_label(Path(original)).array, read_label(Path(file)).array
        )
        info = [{"name": "a", "idx": 1}, {"name": "b", "idx": 2}]
        client.save_label(sample["id"], file, params={"label_info": info, "model": "volume"})
        final = client.download_label(sample["id"], "final")
        np.testing.assert_array_equal(read_label(Path(final)).array, read_label(Path(file)).array)
        assert client.info()["datastore"]["completed"] == 1
        with pytest.raises(slicer.MONAILabelClientException):
            client.infer("none", "my volume", {})
