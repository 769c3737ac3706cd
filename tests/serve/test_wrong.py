"""Whatever is sent to whatever route: no fault of the server, no hang, and a sentence each time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from cdal.recipes.recipe import DataSettings
from helpers.files import picture, save_nifti
from helpers.segmenters import bright_predictor
from helpers.serving import Running, served

FLAT = DataSettings(spatial_dims=2, size=(16, 16))
NUMBERS = ("-1", "9" * 40, "1e400", "x", "")
NAMES = ("none", "%00", "a" * 300, "%ed%a0%80", "-1")
HUGE = json.dumps({"minutes": 10**400, "sampling": {"seed": 10**400}})
BODIES = (
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 5000,
    b"3",
    b"null",
    b"{}",
    b'{"model": 3, "verdict": [], "minutes": "x", "name": {}, "params": 1, "location": "ab"}',
    b'{"location": [1e400, 2], "size": [NaN, 1], "level": Infinity, "patch_size": ["x", {}]}',
    b'{"image": "a.png", "patch_size": [-5, 1e300], "name": "\\ud800", "model": "\\ud800"}',
    b'{"model": "\\ud800"}',
    b'{"name": "\\ud800", "minutes": NaN}',
    HUGE.encode(),
)
FORM = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n--b--\r\n'
FORMS = tuple(
    FORM % parts
    for parts in (
        (b"file", b'; filename=""', b""),
        (b"file", b"", b"text"),
        (b"label", b'; filename="m.png"', b"x"),
        (b"params", b"", b'{"votes": -1, "label_info": 5}'),
        (b"wsi", b"", b'{"location": [1]}'),
        (b"sampling", b"", b"[]"),
    )
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("wrong")
    picture(root / "data" / "a.png", np.random.default_rng(0).integers(0, 255, (20, 20), np.uint8))
    save_nifti(root / "data" / "v.nii.gz", np.ones((5, 6, 7)))
    with (
        pytest.MonkeyPatch.context() as patch,
        served(root, [bright_predictor(FLAT)], root / "results", root / "data") as server,
    ):
        patch.setattr("cdal.serve.training.run_verb", lambda words, line, begun: "it was refused")
        for case in server.client.get("/v1/cases").json()["cases"]:
            started = server.client.post(f"/v1/cases/{case['id']}/predict", json={})
            server.wait_for(started.json()["job"])
        yield server


def known_values(running: Running) -> dict[str, tuple[str, ...]]:
    """Values of the parts of an address that are right, as far as they go."""
    cases = running.client.get("/v1/cases").json()["cases"]
    ids = tuple(case["id"] for case in cases)
    return {
        "name": ids,
        "model": ("bright",),
        "kind": ("mask", "image"),
        "level": ("0",),
        "place": ("0_0.jpg",),
        "strategy": ("uncertainty",),
        "image": ids[:1],
        "label": ids[:1],
    }


def check(reply: httpx.Response, *what: object) -> None:
    told = (*what, reply.status_code, reply.text[:200])
    assert reply.status_code < 500, told
    if reply.status_code >= 400 and reply.request.method != "HEAD":
        detail = reply.json()["detail"]
        assert isinstance(detail, str) and len(detail) > 8, told
        assert "cdal-" not in detail and "Traceback" not in detail, told


def operations(running: Running) -> Iterator[tuple[str, str, list[dict[str, object]]]]:
    for path, methods in running.client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation.get("parameters", [])


def addresses(path: str, known: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """A path with right values in its places, and with wrong ones in each of them."""
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    right = [known.get(name, ("none",)) for name in names]
    for values in itertools.product(*right):
        yield path.format(**dict(zip(names, values, strict=True)))
    for place, name in enumerate(names):
        for wrong in (*NAMES, *(NUMBERS if name == "level" else ())):
            values = [*(one[0] for one in right)]
            values[place] = wrong
            yield path.format(**dict(zip(names, values, strict=True)))


@pytest.mark.slow
def test_wrong_names_numbers_and_bodies_are_told(running: Running):
    known = known_values(running)
    kinds = {"Content-Type": "multipart/form-data; boundary=b"}
    client = running.client
    for method, path, parameters in operations(running):
        if path == "/v1/jobs/{name}/events":  # has no end to wait for
            continue
        queries = [one["name"] for one in parameters if one["in"] == "query"]
        right = {name: known[name][0] for name in queries if name in known}
        for address in addresses(path, known):
            check(client.request(method, address, params=right), method, address)
        address = next(addresses(path, known))
        for name, wrong in itertools.product(queries, (*NUMBERS, *NAMES)):
            told = f"{address}?{name}={wrong}"
            check(client.request(method, told), method, told)
        if method in ("POST", "PUT"):
            for body in BODIES:
                reply = client.request(method, address, params=right, content=body)
                check(reply, method, address, body[:60])
            for body in FORMS:
                reply = client.request(method, address, params=right, content=body, headers=kinds)
                check(reply, method, address, body[:80])
    assert {case["name"] for case in client.get("/v1/cases").json()["cases"]} >= {"a.png"}


def test_other_methods_are_refused(running: Running):
    methods: dict[str, set[str]] = {}
    for method, path, _ in operations(running):
        methods.setdefault(path, set()).add(method)
    for path, allowed in methods.items():
        address = next(addresses(path, known_values(running)))
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - allowed:
            reply = running.client.request(method, address)
            assert reply.status_code in (404, 405), (method, path, reply.status_code)


@pytest.mark.parametrize(
    ("sampling", "field"),
    [
        ({"seed": -1}, "seed"),
        ({"votes": 0}, "votes"),
        ({"votes": 501}, "votes"),
        ({"votes": 10**400}, "votes"),
        ({"votes": True}, "votes"),
        ({"timesteps": -1}, "timesteps"),
        ({"timesteps": 3}, "timesteps"),
        ({"components": -1}, "components"),
        ({"mirror": True}, "mirror"),
        ({"mirror": 1}, "mirror"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": 1e9}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"review_below": 1.5}, "review_below"),
        ({"decision": "best"}, "decision"),
        ({"decision": {}}, "decision"),
        ({"strict": "yes"}, "strict"),
        ({"stict": True}, "stict"),
    ],
)
def test_options_of_sampling_are_checked_before_a_job_is_taken(
    running: Running, sampling: dict[str, object], field: str, tmp_path: Path
):
    files = {"file": ("a.png", b"not looked at")}
    kept = len(running.site.uploads)
    for reply in (
        running.client.post(
            "/v1/predict/bright?wait=false", files=files, data={"sampling": json.dumps(sampling)}
        ),
        running.client.post(
            f"/v1/cases/{known_values(running)['name'][0]}/predict",
            content=json.dumps({"sampling": sampling}),
        ),
    ):
        assert reply.status_code == 422 and field in reply.json()["detail"], reply.text
    assert len(running.site.uploads) == kept


def test_a_job_that_fails_leaves_a_case_that_says_why(running: Running):
    root = str(running.site.uploads.root)
    for name, content in (("a b.png", b"no picture"), ("v.nii.gz", b"none"), ("c.dcm", b"DICM")):
        files = {"file": (name, content)}
        sent = running.client.post("/v1/predict/bright?wait=false", files=files)
        assert sent.status_code == 202, sent.text
        job = running.wait_for(sent.json()["job"])
        case = running.client.get(f"/v1/cases/{sent.json()['case']}").json()
        assert job["state"] == case["state"] == "failed"
        assert case["message"] == job["message"] != ""
        assert root not in str([job, case]) and name in case["message"]
        running.client.delete(f"/v1/cases/{sent.json()['case']}")


def test_a_failure_before_the_image_is_opened_is_told_too(
    running: Running, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", f"{running.site.uploads.root}/one/results/z")

    monkeypatch.setattr(running.site.models, "sampled", fail)
    case = known_values(running)["name"][0]
    job = running.client.post(f"/v1/cases/{case}/predict", json={}).json()["job"]
    assert running.wait_for(job)["state"] == "failed"
    told = running.client.get(f"/v1/cases/{case}").json()
    assert "No space left on device: 'z'." in told["message"]
    assert str(running.site.uploads.root) not in told["message"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/predict", '{"modle": "bright"}', "no field 'modle'; there are model, sampling, save"),
        ("/predict", '{"model": "bright",}', "expected a JSON object; "),
        ("/predict", '{"save": []}', "save names nothing"),
        ("/predict", '{"save": [" , "]}', "save names nothing"),
        ("/predict", "[]", "the body: "),
        ("/review", '{"verdict": "accept", "who": "me"}', "no field 'who'; there are verdict"),
        ("/review", '{"verdict": "perhaps"}', "verdict: "),
    ],
)
def test_what_is_wrong_with_a_body_is_told_in_its_own_words(
    running: Running, path: str, body: str, words: str
):
    case = known_values(running)["name"][0]
    method = "POST" if path == "/predict" else "PUT"
    reply = running.client.request(method, f"/v1/cases/{case}{path}", content=body)
    assert reply.status_code == 422 and words in reply.json()["detail"], reply.text
    assert "decode" not in reply.text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"votes": "3"}, "no field 'votes'; there are file, sampling, save, name"),
        ({"save": ""}, "save names nothing"),
        ({"file": "a.png"}, "with the @"),
    ],
)
def test_fields_of_a_form_that_mean_nothing_are_told(
    running: Running, data: dict[str, str], words: str
):
    files = {"file": ("a.png", b"not looked at")}
    reply = running.client.post("/v1/predict/bright", files=files, data=data)
    assert reply.status_code == 422 and words in reply.json()["detail"], reply.text
    bare = running.client.post("/v1/predict/bright", content=b"not a form")
    assert bare.status_code == 422 and "curl -F file=@" in bare.json()["detail"]
