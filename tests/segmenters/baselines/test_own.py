"""Your own networks: made, refused, kept in a model file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SegResNet

from cdal.recipes import with_segmenter
from cdal.recipes.recipe import from_dict, override
from cdal.runtime.errors import UserError
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.model_file import load_model, save_model
from cdal.segmenters.model_header import ModelHeader
from cdal.segmenters.segmenter import Supervised
from cdal.segmenters.trust import trust_own_network
from cdal.training.train import train
from helpers.recipes import small_recipe
from helpers.systems import random_batch, sized, small

OWN = """
import torch
from torch import nn
from cdal.segmenters.segmenter import Segmenter, turn

class Plain(nn.Module):
    def __init__(self, n_channels, n_classes, spatial_dims, img_size):
        super().__init__()
        self.given = (n_channels, n_classes, spatial_dims, img_size)
        self.convolution = nn.Conv2d(n_channels, n_classes, 3, padding=1)
    def forward(self, image):
        return self.convolution(image)

class Demanding(Plain):
    def __init__(self, n_channels, n_classes, spatial_dims, img_size, depth):
        super().__init__(n_channels, n_classes, spatial_dims, img_size)

class Halving(Plain):
    def forward(self, image):
        return super().forward(image)[..., ::2, ::2]

class Mute(Plain):
    def forward(self, image):
        return None

class Weightless(nn.Module):
    def forward(self, image):
        return image

class Masked(Plain):
    def __init__(self, n_channels, n_classes, spatial_dims, img_size):
        super().__init__(n_channels, n_classes, spatial_dims, img_size)
        self.norm = nn.BatchNorm2d(n_classes)
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    def forward(self, image):
        return self.norm(self.convolution(image)) + self.mask.softmax(dim=0)[0] - 1

class Whole(Segmenter):
    predictor = "network"
    def __init__(self, image_channels, classes):
        super().__init__()
        self.network = nn.Conv2d(image_channels, classes, 1)
    def players(self):
        return {"network": self.network}
    def turns(self, batch, rng, step):
        yield turn("network", {"loss": self.network(batch.image).square().mean()})
    def sample(self, image, votes, rng):
        return self.network(image).softmax(dim=1)[None].expand(votes, -1, -1, -1, -1)
    @property
    def stochastic(self):
        return True
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with your own networks."""
    (tmp_path / "networks_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "networks_of_a_test", raising=False)
    return "networks_of_a_test"


def build_own(name: str, **options: object) -> object:
    fields = {"segmenter.options": options} if options else {}
    return build_segmenter(
        override(with_segmenter(sized("phantoms", (32, 32)), name), fields), 1, 2
    )


def build_from_file(name: str) -> object:
    """As a model file does, whose author names the class."""
    return build_segmenter(
        from_dict({"data": {"spatial_dims": 2, "size": [32, 32]}, "segmenter": {"name": name}}),
        1,
        2,
    )


def test_a_network_is_made_with_the_arguments_it_has_under_the_names_it_gives_them(own: str):
    segmenter = build_own(f"{own}.Plain")
    assert isinstance(segmenter, Supervised)
    assert segmenter.network.given == (1, 2, 2, (32, 32))
    assert type(build_own(f"{own}.Whole")).__name__ == "Whole"


def test_options_reach_the_network_and_win():
    options = {"init_filters": 16, "blocks_down": [1, 1], "blocks_up": [1], "out_channels": 4}
    network = build_own("monai.networks.nets.SegResNet", **options).network
    assert isinstance(network, SegResNet)
    assert (network.spatial_dims, network.init_filters, network.in_channels) == (2, 16, 1)
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 4, 32, 32)


@pytest.mark.parametrize("name", ["monai.networks.nets.SegResNet", "Plain", "Whole"])
def test_a_model_with_your_own_network_is_read_again(
    name: str, own: str, tmp_path: Path, rng: torch.Generator
):
    recipe = with_segmenter(sized("phantoms", (32, 32)), name if "." in name else f"{own}.{name}")
    if "." in name:
        recipe = override(
            recipe,
            {"segmenter.options": '{"init_filters": 8, "blocks_down": [1, 2], "blocks_up": [1]}'},
        )
    segmenter, batch = build_segmenter(recipe, 1, 2, training=True), random_batch(recipe, 2)
    (turn,) = segmenter.turns(batch, rng, 0)
    turn.loss.backward()
    torch.optim.SGD(segmenter.parameters(), 0.1).step()
    header = ModelHeader(recipe, ("background", "lesion"), 1)
    save_model(
        tmp_path / "model.safetensors",
        segmenter.players()[segmenter.predictor].state_dict(),
        header,
    )
    trust_own_network(recipe.segmenter.name)
    loaded, read = load_model(tmp_path / "model.safetensors")
    assert read.recipe == recipe
    assert type(loaded) is type(segmenter)
    torch.testing.assert_close(
        loaded.sample(batch.image, 2, rng), segmenter.eval().sample(batch.image, 2, rng)
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package.Network", "no_such_package"),
        ("monai.networks.nets.NoSuchNetwork", "NoSuchNetwork"),
        (".Network", "is no class"),
        ("monai.networks.nets.segresnet", "must be a class of torch.nn.Module"),
        ("pathlib.Path", "must be a class of torch.nn.Module"),
        ("..package.Network", "is no class"),
    ],
)
def test_what_is_not_a_network_is_refused(name: str, message: str):
    with pytest.raises(UserError, match=message):
        build_own(name)
    with pytest.raises(UserError, match=message):
        build_from_file(name)


@pytest.mark.parametrize(("owner", "name"), [(os, "system"), (subprocess, "Popen")])
def test_what_is_not_a_network_is_never_called(
    owner: object, name: str, monkeypatch: pytest.MonkeyPatch
):
    called = []
    kind = type(name, (), {"__init__": lambda self, *args, **options: called.append(args)})
    monkeypatch.setattr(
        owner, name, (lambda *args: called.append(args)) if name == "system" else kind
    )
    for build in (build_own, build_from_file):
        with pytest.raises(UserError, match=r"must be a class of torch\.nn\.Module"):
            build(f"{owner.__name__}.{name}")
    assert called == []
    getattr(owner, name)("a call would be seen")
    assert len(called) == 1


def test_an_argument_that_is_missing_is_named(own: str):
    with pytest.raises(UserError, match=r"'depth'.*--segmenter\.options"):
        build_own(f"{own}.Demanding")
    assert isinstance(build_own(f"{own}.Demanding", depth=3), Supervised)
    with pytest.raises(UserError, match="heigth"):
        build_own(f"{own}.Plain", heigth=3)


def test_an_output_of_another_shape_is_refused_with_both_shapes(own: str, rng: torch.Generator):
    segmenter, batch = build_own(f"{own}.Halving"), random_batch(small("phantoms", "unet"), 2)
    for call in (
        lambda: segmenter.sample(batch.image, 1, rng),
        lambda: list(segmenter.turns(batch, rng, 0)),
    ):
        with pytest.raises(UserError, match=r"shape \(2, 2, 32, 32\).*gave \(2, 2, 16, 16\)"):
            call()


def test_a_network_without_an_output_is_refused_with_what_it_must_give(
    own: str, rng: torch.Generator
):
    with pytest.raises(UserError, match="must give logits of shape"):
        build_own(f"{own}.Mute").sample(torch.zeros(1, 1, 32, 32), 1, rng)


def test_a_network_without_weights_is_refused(own: str):
    with pytest.raises(UserError, match="no weights that could be trained"):
        build_own(f"{own}.Weightless")


def test_statistics_are_averaged_with_the_weights_and_infinite_constants_are_kept(
    own: str, phantoms: Path, tmp_path: Path
):
    recipe = with_segmenter(small_recipe(steps=6), f"{own}.Masked")
    loaded, _ = load_model(train(recipe, phantoms, tmp_path / "run", "cpu"))
    state = loaded.state_dict()
    assert state["network.mask"].tolist() == [0.0, float("-inf")]
    assert int(state["network.norm.num_batches_tracked"]) == 6
    last = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["players"]["network"]
    assert state["network.norm.running_var"].isfinite().all()
    assert not torch.equal(state["network.norm.running_mean"], last["norm.running_mean"])
