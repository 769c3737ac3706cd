"""Cases of a folder of results: their order, layers, files, reviews and corrections."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Pillow

from cdal.datasets.reviews import read_reviews
from cdal.imaging.formats import read_image, read_label
from cdal.inference.load import load
from cdal.inference.predict import predict
from cdal.serve import layers
from helpers.files import picture, save_nifti, write_series
from helpers.serving import SAMPLING, Running, picture_model, served

ALL = ("mask", "probability", "uncertainty", "votes")
OBLIQUE = np.array([[0.2, -1.2, 0, 5], [0.1, 0.1, 0.8, -3], [1, 0.2, 0.1, 2], [0, 0, 0, 1.0]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, volume_model: Path) -> dict[str, Path]:
    """Images of several formats, the results of some of them, and the models."""
    root, rng = tmp_path_factory.mktemp("cases"), np.random.default_rng(0)
    data, results = root / "data", root / "results"
    for name in ("v.nii.gz", "w.nii.gz"):
        save_nifti(data / name, (1000 * rng.random((17, 20, 14))).astype(np.int16), OBLIQUE)
    for name in ("p.png", "new.png"):
        picture(data / name, rng.integers(0, 255, (40, 50)).astype(np.uint8))
    series = write_series(root / "chest", rng.integers(0, 500, (16, 18, 20)))
    flat = picture_model(root / "flat.safetensors")
    volume = load(volume_model, SAMPLING, "cpu")
    predict(volume, [data / "v.nii.gz", data / "w.nii.gz", series], results, save=ALL)
    predict(load(flat, SAMPLING, "cpu"), [data / "p.png"], results, save=ALL)
    return {"data": data, "results": results, "flat": flat, "volume": volume_model}


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]
) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("server")
    models = [folders["flat"], folders["volume"]]
    with served(root, models, folders["results"], folders["data"]) as server:
        yield server


def ids(running: Running) -> dict[str, str]:
    cases = running.client.get("/v1/cases").json()["cases"]
    return {case["name"]: case["id"] for case in cases}


def layer(running: Running, name: str, kind: str, **query: object) -> bytes:
    reply = running.client.get(f"/v1/cases/{ids(running)[name]}/layers/{kind}", params=query)
    assert reply.status_code == 200, reply.text
    return reply.content


def volume_of(content: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def test_cases_are_listed_worst_first_then_those_without_results(
    running: Running, folders: dict[str, Path]
):
    cases = running.client.get("/v1/cases").json()["cases"]
    lowest = [
        min(one["expected_dice"] for one in case["classes"]) for case in cases if case["classes"]
    ]
    assert lowest == sorted(lowest) and len(lowest) == 4
    assert [case["name"] for case in cases[4:]] == ["new.png"]
    assert {case["state"] for case in cases[:4]} == {"segmented"} and cases[4]["state"] == "new"
    assert str(folders["data"]) not in json.dumps(cases)


@pytest.mark.parametrize("name", ["v.nii.gz", "chest"])
def test_layers_of_volumes_lie_on_the_grid_of_the_image(
    running: Running, folders: dict[str, Path], name: str
):
    image = read_image(folders["data"] / name if name != "chest" else folders["data"].parent / name)
    results, stem = folders["results"], name.split(".")[0]
    shown = volume_of(layer(running, name, "image"))
    np.testing.assert_array_equal(shown.get_fdata(), image.array[0])
    assert shown.get_data_dtype() == np.int16
    votes = nib.load(results / f"{stem}_votes.nii.gz").get_fdata()
    chances = nib.load(results / f"{stem}_probability.nii.gz").get_fdata()
    expected = {
        "mask": volume_of(layer(running, name, "mask")).get_fdata(),
        "votes": votes,
        "probability": chances[..., 1],
        "uncertainty": nib.load(results / f"{stem}_uncertainty.nii.gz").get_fdata(),
    }
    if name != "chest":
        expected["mask"] = nib.load(results / f"{stem}_mask.nii.gz").get_fdata()
    for kind, values in expected.items():
        found = volume_of(layer(running, name, kind, **{"class": 2}))
        np.testing.assert_array_equal(found.get_fdata(), values.reshape(found.shape), kind)
        np.testing.assert_allclose(found.affine, image.affine, atol=1e-5)
        raw = nib.Nifti1Image.from_bytes(layer(running, name, kind, packed=False, **{"class": 2}))
        assert raw.shape == found.shape
    case = running.client.get(f"/v1/cases/{ids(running)[name]}").json()
    assert tuple(case["shape"]) == image.shape
    np.testing.assert_allclose(case["spacing"], image.spacing)


def test_intensities_of_large_volumes_are_not_compressed(
    running: Running, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(layers, "_PACKED_BYTES", 1000)
    raw = nib.Nifti1Image.from_bytes(layer(running, "v.nii.gz", "image"))
    image = read_image(folders["data"] / "v.nii.gz")
    np.testing.assert_array_equal(raw.get_fdata(), image.array[0])
    assert layer(running, "v.nii.gz", "mask")[:2] == b"\x1f\x8b"  # labels always are


def test_layers_of_pictures_are_exact(running: Running, folders: dict[str, Path]):
    def shown(kind: str, **query: object) -> np.ndarray:
        return np.asarray(Pillow.open(io.BytesIO(layer(running, "p.png", kind, **query))))

    results = folders["results"]
    np.testing.assert_array_equal(shown("image"), Pillow.open(folders["data"] / "p.png"))
    np.testing.assert_array_equal(shown("mask"), np.asarray(Pillow.open(results / "p_mask.png")))
    votes = np.asarray(Pillow.open(results / "p_votes.png")).reshape(2, 40, 50)
    np.testing.assert_array_equal(shown("votes", vote=1), votes[1])
    chances = np.asarray(Pillow.open(results / "p_probability.png")).reshape(2, 40, 50) / 65535
    for number in (1, 2):
        found = shown("probability", **{"class": number}) / 255
        np.testing.assert_allclose(found, chances[number - 1], atol=0.5001 / 255)
    assert shown("uncertainty").shape == (40, 50)


def test_a_layer_is_sent_again_only_if_it_has_changed(running: Running):
    path = f"/v1/cases/{ids(running)['p.png']}/layers/mask"
    first = running.client.get(path)
    again = running.client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    assert running.client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.parametrize("path", ["layers/mask", "files/mask", "files/image", "tiles/0/0_0.jpg"])
def test_what_a_client_has_is_not_sent_again(running: Running, path: str):
    address = f"/v1/cases/{ids(running)['p.png']}/{path}"
    first = running.client.get(address)
    assert first.status_code == 200 and "no-cache" in first.headers["cache-control"]
    tag = first.headers["etag"]
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = running.client.get(address, headers={"If-None-Match": given})
        assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == tag
    for given in ('"x"', tag[1:-1], ""):
        assert running.client.get(address, headers={"If-None-Match": given}).status_code == 200


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("bytes=2-5", slice(2, 6)),
        ("bytes=-4", slice(-4, None)),
        ("Bytes=9-", slice(9, None)),
        ("bytes=3-999999", slice(3, None)),
        ("bytes=5-3", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=1-2,4-5", None),
        ("lines=1-2", None),
        ("x", None),
        ("", None),
    ],
)
def test_a_range_is_sent_and_what_is_none_is_passed_over(
    running: Running, given: str, part: slice | None
):
    address = f"/v1/cases/{ids(running)['p.png']}/files/mask"
    whole = running.client.get(address).content
    reply = running.client.get(address, headers={"Range": given})
    assert reply.status_code == (200 if part is None else 206)
    assert reply.content == (whole if part is None else whole[part])
    assert int(reply.headers["content-length"]) == len(reply.content)


@pytest.mark.parametrize("given", ["bytes=999999-", "bytes=-0"])
def test_a_range_outside_is_refused(running: Running, given: str):
    address = f"/v1/cases/{ids(running)['p.png']}/files/mask"
    reply = running.client.get(address, headers={"Range": given})
    assert reply.status_code == 416 and "bytes" in reply.json()["detail"]
    assert reply.headers["content-range"].startswith("bytes */")


def test_files_are_sent_byte_for_byte(running: Running, folders: dict[str, Path]):
    case = ids(running)["chest"]
    reply = running.client.get(f"/v1/cases/{case}/files/mask")
    assert reply.content == (folders["results"] / "chest_mask.dcm").read_bytes()
    assert running.client.get(f"/v1/cases/{case}/files/overlay").status_code == 404


def test_what_is_not_there_is_not_found(running: Running):
    case = ids(running)["p.png"]
    for path in (
        "/v1/cases/none",
        f"/v1/cases/{case}/layers/other",
        f"/v1/cases/{case}/layers/votes?vote=2",
        f"/v1/cases/{case}/layers/probability?class=0",
        f"/v1/cases/{case}/layers/reviewed",
        f"/v1/cases/{case}/tiles/0/0.jpg",
        f"/v1/cases/{case}/tiles/99/0_0.jpg",
        "/v1/jobs/none",
    ):
        reply = running.client.get(path)
        assert reply.status_code == 404 and reply.json()["detail"], path
    assert running.client.delete("/v1/cases/none").status_code == 404
    for name in ("p.png", "new.png"):
        kept = running.client.delete(f"/v1/cases/{ids(running)[name]}")
        assert kept.status_code == 409 and "server's own folders" in kept.json()["detail"]
    volume = f"/v1/cases/{ids(running)['v.nii.gz']}"
    for path in ("/tiles", "/tiles/0/0_0.jpg", "/objects"):
        reply = running.client.get(volume + path)
        assert reply.status_code == 422
        assert "v.nii.gz is a volume; " in reply.json()["detail"]


def test_an_image_of_the_data_is_segmented_into_the_results(
    running: Running, folders: dict[str, Path], tmp_path: Path
):
    image = folders["data"] / "new.png"
    before = ids(running)["new.png"]
    reply = running.client.post(
        f"/v1/cases/{before}/predict", json={"model": "flat", "save": ["mask"]}
    )
    assert reply.status_code == 202
    assert running.wait_for(reply.json()["job"])["state"] == "done"
    assert ids(running)["new.png"] == before
    assert running.client.get(f"/v1/cases/{before}").json()["state"] == "segmented"
    predict(load(folders["flat"], SAMPLING, "cpu"), [image], tmp_path)
    made = (folders["results"] / "new_mask.png").read_bytes()
    assert made == (tmp_path / "new_mask.png").read_bytes()


def test_results_of_another_image_of_the_name_are_kept(folders: dict[str, Path], tmp_path: Path):
    results, data = tmp_path / "results", tmp_path / "data"
    predict(load(folders["flat"], SAMPLING, "cpu"), [folders["data"] / "p.png"], results)
    before = (results / "p_mask.png").read_bytes()
    picture(data / "p.png", np.zeros((40, 50), np.uint8))
    with served(tmp_path, [folders["flat"]], results, data) as server:
        cases = server.client.get("/v1/cases").json()["cases"]
        (new,) = [case["id"] for case in cases if case["state"] != "segmented"]
        reply = server.client.post(f"/v1/cases/{new}/predict", json={"save": ["mask"]})
        state = server.wait_for(reply.json()["job"])
    assert state["state"] == "failed"
    assert "p.png would share the name p of its results" in str(state["message"])
    assert (results / "p_mask.png").read_bytes() == before


@pytest.mark.parametrize("name", ["w.nii.gz", "chest"])
def test_a_corrected_volume_is_saved_in_its_own_format_and_grid(
    running: Running, folders: dict[str, Path], name: str
):
    case, stem = ids(running)[name], name.split(".")[0]
    shown = volume_of(layer(running, name, "mask"))
    label = np.asarray(shown.dataobj).copy()
    label[3, 4, 5] = 1 + label[3, 4, 5] % 2
    drawn = nib.Nifti1Image(label, shown.affine)  # as NiiVue writes it
    drawn.header.set_qform(None, 0)
    reply = running.client.put(f"/v1/cases/{case}/correction", content=drawn.to_bytes())
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    saved = folders["results"] / "reviewed" / answer["mask"]
    assert saved.name == ("w.nii.gz" if name == "w.nii.gz" else "chest.dcm")
    assert (volume_of(layer(running, name, "reviewed")).get_fdata() != shown.get_fdata()).sum() == 1
    if name == "w.nii.gz":
        np.testing.assert_array_equal(read_label(saved).array[0], label)
        np.testing.assert_array_equal(
            nib.load(saved).affine, nib.load(folders["data"] / name).affine
        )
    expected = {
        kind: 2 * ((label == k) & (shown.get_fdata() == k)).sum()
        / ((label == k).sum() + (shown.get_fdata() == k).sum())
        for k, kind in enumerate(("a", "b"), 1)
    }  # fmt: skip
    assert answer["verdict"] == "fix"
    assert answer["dice"] == pytest.approx(expected)
    told = running.client.get(f"/v1/cases/{case}").json()
    assert told["review"]["dice"] == answer["dice"] and "reviewed" in told["layers"]
    kept = read_reviews(folders["results"]).cases
    assert kept[answer["mask"]].input.endswith(name), stem


def test_a_corrected_picture_is_saved_pixel_for_pixel(running: Running, folders: dict[str, Path]):
    label = np.zeros((40, 50), np.uint8)
    label[3:9, 4:20], label[20, 30] = 1, 2
    content = io.BytesIO()
    Pillow.fromarray(label).save(content, format="PNG")
    case = ids(running)["p.png"]
    reply = running.client.put(f"/v1/cases/{case}/correction", content=content.getvalue())
    assert reply.status_code == 200, reply.text
    saved = folders["results"] / "reviewed" / "p.png"
    np.testing.assert_array_equal(read_label(saved).array[0], label)
    saved.unlink()
    for name in ("mask.png", "mask"):  # curl -X PUT -F file=@mask.png
        files = {"file": (name, content.getvalue())}
        reply = running.client.put(f"/v1/cases/{case}/correction", files=files)
        assert reply.status_code == 200, reply.text
        np.testing.assert_array_equal(read_label(saved).array[0], label)


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"content": b""}, "is empty"),
        ({"content": b"{}"}, "begins with b'{}'"),
        ({"json": {"mask": [1, 2]}}, "begins with"),
        ({"content": b"\x5c\x01\0\0 too short"}, "begins with"),
        ({"files": {"file": ("m.png", b"")}}, "is empty"),
        ({"files": {"mask": ("m.png", b"x")}}, "expected file"),
        ({"files": [("file", ("a.png", b"x")), ("file", ("b.png", b"y"))]}, "has file, file"),
        ({"files": {"file": ("m.png", b"x")}, "data": {"who": "me"}}, "has who, file"),
    ],
)
def test_what_is_no_mask_is_refused_with_what_to_send(
    running: Running, folders: dict[str, Path], sent: dict[str, object], words: str
):
    case, folder = ids(running)["new.png"], folders["results"] / "reviewed"
    before = sorted(folder.glob("*"))
    reply = running.client.put(f"/v1/cases/{case}/correction", **sent)
    assert reply.status_code == 422 and words in reply.json()["detail"], reply.text
    assert "curl -T mask.nii.gz" in reply.json()["detail"] or words == "expected file"
    assert sorted(folder.glob("*")) == before
    assert running.empties()


def moved(affine: np.ndarray) -> np.ndarray:
    other = affine.copy()
    other[0, 3] += 5
    return other


def test_corrections_that_do_not_belong_to_the_image_are_refused(
    running: Running, folders: dict[str, Path]
):
    case, affine = ids(running)["v.nii.gz"], nib.load(folders["data"] / "v.nii.gz").affine
    shape = (17, 20, 14)
    for array, place, words in (
        (np.zeros(shape, np.uint8), moved(affine), "place in space"),
        (np.zeros((17, 20, 13), np.uint8), affine, "shape"),
        (np.full(shape, 3, np.uint8), affine, "highest number is 3"),
        (np.full(shape, 0.5, np.float32), affine, "whole numbers"),
    ):
        content = nib.Nifti1Image(array, place).to_bytes()
        reply = running.client.put(f"/v1/cases/{case}/correction", content=content)
        assert reply.status_code == 422 and words in reply.json()["detail"], reply.text
    assert running.client.put(f"/v1/cases/{case}/correction", content=b"?").status_code == 422
    assert not (folders["results"] / "reviewed" / "v.nii.gz").exists()
    assert running.empties()


def test_verdicts_are_kept_and_the_next_case_is_the_worst_open_one(
    running: Running, folders: dict[str, Path]
):
    def worst_open() -> str | None:
        cases = running.client.get("/v1/cases").json()["cases"]
        return next((case["id"] for case in cases if not case["review"]), None)

    case = ids(running)["v.nii.gz"]
    assert running.client.get("/v1/next").json()["case"] == worst_open()
    refused = running.client.put(f"/v1/cases/{case}/review", json={"verdict": "fix"})
    assert refused.status_code == 422 and "corrected mask" in refused.json()["detail"]
    assert running.client.put(f"/v1/cases/{case}/review", json={"verdict": "?"}).status_code == 422
    for verdict in ("reject", "accept"):
        reply = running.client.put(f"/v1/cases/{case}/review", json={"verdict": verdict})
        assert reply.json()["verdict"] == verdict
    assert read_reviews(folders["results"]).cases["v.nii.gz"].verdict == "accept"
    while (following := running.client.get("/v1/next").json()["case"]) is not None:
        assert following == worst_open()
        reply = running.client.put(f"/v1/cases/{following}/review", json={"verdict": "reject"})
        assert reply.status_code == 200, reply.text  # or the loop would not end
    assert worst_open() is None


def test_objects_are_those_of_the_mask(running: Running):
    reply = running.client.get(f"/v1/cases/{ids(running)['p.png']}/objects")
    features = reply.json()["features"]
    mask = np.asarray(Pillow.open(io.BytesIO(layer(running, "p.png", "mask"))))
    areas = dict.fromkeys(("inner", "outer"), 0)
    for feature in features:
        areas[feature["properties"]["classification"]["name"]] += feature["properties"]["area"]
    assert areas == {"inner": (mask == 1).sum(), "outer": (mask == 2).sum()}
    assert running.client.get(f"/v1/cases/{ids(running)['v.nii.gz']}/objects").status_code == 422
