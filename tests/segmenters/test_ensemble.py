"""Model files of several models: what is in them, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cdal.recipes.recipe import override
from cdal.runtime.errors import UserError
from cdal.segmenters import model_file
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.ensemble import ensemble
from cdal.segmenters.model_file import load_model, load_segmenters
from cdal.segmenters.model_header import (
    MOST_MEMBERS,
    ModelHeader,
    header_of,
    join_headers,
    read_header,
)
from cdal.segmenters.segmenter import Segmenter
from helpers.ensembles import CLASSES, member, plain_recipe, run
from helpers.recipes import small_recipe


def stored(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two diffusion models of two seeds, and a plain network."""
    return [
        member(tmp_path / "a.safetensors", 1, data={"train": ["x"]}, licence="free", step=7),
        member(tmp_path / "b.safetensors", 2, scores={"lesion": 0.5}, channel_files=False),
        member(tmp_path / "c.safetensors", 3, plain_recipe(), licence="his"),
    ]


def test_an_ensemble_has_all_of_its_members(files: list[Path], tmp_path: Path):
    path = ensemble(files, tmp_path / "m.safetensors")
    header, headers = read_header(path), [read_header(file) for file in files]
    assert header.members == header.models == tuple(headers)
    assert headers[0].models == (headers[0],)
    assert (header.classes, header.image_channels) == (CLASSES, 1)
    assert (header.licence, header.channel_files) == ("free; his", False)
    assert header.recipe.segmenter.name == "ensemble of 2 cdal, 1 cdal-unet"
    together = stored(path)
    for number, file in enumerate(files):
        for name, weight in stored(file).items():
            own = together.pop(f"{number}.{name}")
            assert own.dtype == weight.dtype
            assert own.numpy().tobytes() == weight.numpy().tobytes()
    assert not together
    assert path.read_bytes() == ensemble(files, tmp_path / "n.safetensors").read_bytes()


def test_its_segmenters_are_those_of_its_members(files: list[Path], tmp_path: Path):
    path = ensemble(files, tmp_path / "m.safetensors")
    header = read_header(path)
    loaded = load_segmenters(path, header, [model.recipe for model in header.models])
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for file, segmenter in zip(files, loaded, strict=True):
        alone, _ = load_model(file)
        votes = [s.sample(image, 2, torch.Generator().manual_seed(5)) for s in (alone, segmenter)]
        assert torch.equal(*votes)
        assert not segmenter.training


def test_members_of_ensembles_and_of_folders_are_taken_one_by_one(tmp_path: Path):
    for fold in (0, 1):
        run(tmp_path / "cv" / "cdal" / f"fold-{fold}", fold)
    first = ensemble([tmp_path / "cv"], tmp_path / "first.safetensors")
    third = member(tmp_path / "third.safetensors", 2)
    second = ensemble([first, third], tmp_path / "second.safetensors")
    files = [tmp_path / "cv/cdal/fold-0", tmp_path / "cv/cdal/fold-1", third]
    assert second.read_bytes() == ensemble(files, tmp_path / "n.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("temperatures", "expected"),
    [((1.2, 1.5, 2.0), math.exp(sum(map(math.log, (1.2, 1.5, 2.0))) / 3)), ((1.2, None), None)],
)
def test_its_temperature_is_the_geometric_mean(
    temperatures: tuple[float | None, ...], expected: float | None, tmp_path: Path
):
    files = [
        member(tmp_path / f"{i}.safetensors", i, plain_recipe(), temperature=value)
        for i, value in enumerate(temperatures)
    ]
    header = read_header(ensemble(files, tmp_path / "m.safetensors"))
    assert header.temperature == pytest.approx(expected, abs=5e-4)
    # Another one, such as a fitted one, is kept.
    other = replace(header, temperature=3.0)
    assert header_of(other.to_json(), tmp_path) == other


def test_what_cannot_vote_together_is_refused(tmp_path: Path):
    plain = plain_recipe()
    first = member(tmp_path / "first.safetensors", recipe=plain, channel_files=True)
    others = {
        "classes is": {"classes": ("background", "cyst")},
        "image_channels is 1 in the one and 3": {"channels": 3},
        "channel_files is True in the one and False": {"channel_files": False},
        "data.size is": {"recipe": plain_recipe(size=(64, 64))},
    }
    for message, changes in others.items():
        other = member(tmp_path / "other.safetensors", **{"recipe": plain, **changes})
        with pytest.raises(UserError, match=f"first.*other.*cannot vote together: {message}"):
            ensemble([first, other], tmp_path / "m.safetensors")
    for models, out, message in (
        ([first], "m.safetensors", "2 to 32 members; 1 models are given"),
        ([first] * 2, "m.onnx", "the name must end so"),
        ([first, tmp_path / "none"], "m.safetensors", "no model"),
    ):
        with pytest.raises(UserError, match=message):
            ensemble(models, tmp_path / out)
    headers = [read_header(first)] * (MOST_MEMBERS + 1)
    with pytest.raises(UserError, match="2 to 32 members; 33 models are given"):
        join_headers(headers, ["a name"] * len(headers))
    graph = tmp_path / "graph.onnx"
    graph.touch()
    with pytest.raises(UserError, match=r"only \.safetensors files can be put together"):
        ensemble([first, graph], tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_a_broken_member_is_named_before_anything_is_written(tmp_path: Path):
    whole = member(tmp_path / "whole.safetensors", recipe=plain_recipe())
    broken = tmp_path / "broken.safetensors"
    weights = {name: weight * math.nan for name, weight in stored(whole).items()}
    save_file(weights, broken, {"cdal": read_header(whole).to_json()})
    with pytest.raises(UserError, match=r"broken\.safetensors: some of its weights are NaN"):
        ensemble([whole, broken], tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_verbs_of_single_models_say_so(files: list[Path], tmp_path: Path):
    path = ensemble(files, tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="an ensemble of 3 models; a single model is expected"):
        load_model(path)


def values(count: int = 2) -> dict[str, Any]:
    """The header of an ensemble as plain values."""
    single = json.loads(ModelHeader(plain_recipe(), CLASSES, 1).to_json())
    return {"members": [single] * count, "temperature": 1.5, "version": "0.1.0"}


def changed(**changes: Any) -> dict[str, Any]:
    return {**values(), **changes}


def with_member(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The header with a changed second member."""
    ensemble_values = json.loads(json.dumps(values()))
    change(ensemble_values["members"][1])
    return ensemble_values


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (changed(members=[]), "2 to 32 members; it is 0"),
        (changed(members=[{}] * 10**5), "2 to 32 members; it is 100000"),
        (changed(members=values()["members"][:1]), "2 to 32 members; it is 1"),
        (changed(members={"0": 1}), "2 to 32 members; it is dict"),
        (changed(members=[1, 2]), "the header of a single model"),
        (changed(members=[values(), values()]), "the header of a single model"),
        (changed(members=[{}, {}]), "'classes' is missing"),
        (changed(temperature=0), "temperature must be 0.001 to 1000"),
        (changed(version=1), "version is 1"),
        (changed(classes=["a", "b"]), "an ensemble has no 'classes'"),
        (with_member(lambda one: one.pop("recipe")), "'recipe' is missing"),
        (with_member(lambda one: one.update(image_channels=10**9)), "image_channels must be 1 to"),
        (with_member(lambda one: one.update(classes=["a", "b"])), "member 0 of m.* classes is"),
        (with_member(lambda one: one["recipe"]["data"].update(overlap=0.1)), "data.overlap is 0.5"),
        (with_member(lambda one: one["recipe"]["data"].update(size=[10**6] * 2)), "data.size"),
        (with_member(lambda one: one["recipe"].update(segmenter={"name": "ensemble"})), "ensemble"),
        (with_member(lambda one: one.update(members=[])), "the header of a single model"),
    ],
)
def test_a_header_of_impossible_values_is_refused(header: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        header_of(json.dumps(header), Path("m.safetensors"))


def test_the_header_that_they_are_made_of_is_whole():
    assert len(header_of(json.dumps(values()), Path("m.safetensors")).members) == 2


@pytest.mark.parametrize("name", ["2.x", "x", "00.x", "-1.x", "1"])
def test_weights_of_no_member_are_refused(name: str, tmp_path: Path):
    file = member(tmp_path / "a.safetensors", recipe=plain_recipe())
    path = ensemble([file, file], tmp_path / "m.safetensors")
    header = read_header(path)
    save_file({**stored(path), name: torch.zeros(2)}, path, {"cdal": header.to_json()})
    with pytest.raises(UserError, match=r"m\.safetensors: its weights cannot be read"):
        load_segmenters(path, header, [model.recipe for model in header.models])


def test_weights_that_do_not_fit_are_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also those of the last member: nothing but the weights' names and shapes is looked at."""
    plain = plain_recipe()
    file = member(tmp_path / "a.safetensors", recipe=plain)
    path = ensemble([file, file], tmp_path / "m.safetensors")
    header = read_header(path)
    huge = replace(
        header.members[1], recipe=override(plain, {"segmenter.channels": (4, 6, 10_000)})
    )
    lying = replace(header, members=(header.members[0], huge))
    few = {name: weight for name, weight in stored(path).items() if name.startswith("0.")}

    def only_without_memory(*arguments: object) -> Segmenter:
        assert torch.empty(1).is_meta
        return build_segmenter(*arguments)

    monkeypatch.setattr(model_file, "build_segmenter", only_without_memory)
    for weights, told in ((stored(path), lying), (few, header)):
        save_file(weights, path, {"cdal": told.to_json()})
        with pytest.raises(UserError, match="do not fit its recipe"):
            load_segmenters(path, told, [model.recipe for model in told.models])


def test_a_recipe_of_an_ensemble_is_not_trained(tmp_path: Path):
    """Its settings have no place in a recipe that a user writes."""
    with pytest.raises(UserError, match="no segmenter 'ensemble'"):
        header_of(
            json.dumps(
                {
                    **json.loads(ModelHeader(small_recipe(), CLASSES, 1).to_json()),
                    "recipe": {"segmenter": {"name": "ensemble", "members": []}},
                }
            ),
            tmp_path,
        )
