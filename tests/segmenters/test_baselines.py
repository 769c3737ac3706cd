"""The systems that cDAL is compared with: as large as published, and their parts against plain loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cdal.datasets.batch import Batch
from cdal.recipes import with_segmenter
from cdal.recipes.recipe import DataSettings
from cdal.recipes.systems import SYSTEMS
from cdal.runtime.errors import UserError
from cdal.segmenters.baselines import dynunet
from cdal.segmenters.baselines.dynunet import DynUNetSettings
from cdal.segmenters.baselines.medt import GatedAxialAttention, _cut, _join
from cdal.segmenters.baselines.res_unet import weighted_cross_entropy
from cdal.segmenters.baselines.segdiff import RRDB, DenseBlock, SegDiff, linear_schedule, respaced
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.schedule import at
from cdal.segmenters.model_file import load_model, save_model
from cdal.segmenters.model_header import ModelHeader
from cdal.segmenters.segmenter import Supervised, one_hot, parameters
from helpers.segmenters import shake
from helpers.systems import SMALL, VOLUMES_ONLY, random_batch, sized, small

APPLICABLE = [
    (data, system)
    for data in ("phantoms", "hippocampus")
    for system in SMALL
    if data == "hippocampus" or system not in VOLUMES_ONLY
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Every system


def test_every_system_has_a_small_form_here():
    assert set(SMALL) == set(SYSTEMS) - {"segdiff"}


@pytest.mark.parametrize(
    ("system", "data", "size", "classes", "millions"),
    [
        ("unet", "phantoms", (256, 256), 2, 31.0),
        ("unetpp", "phantoms", (256, 256), 2, 9.04),
        ("msu-net", "phantoms", (256, 256), 2, 47.1),
        ("medt", "phantoms", (128, 128), 2, 1.56),
        ("segdiff", "phantoms", (256, 256), 2, (132, 164)),
        ("multi-segcaps", "hippocampus", (40, 56, 40), 3, 1.43),
        ("3d-ucaps", "hippocampus", (40, 56, 40), 3, 6.55),
    ],
)
def test_networks_have_as_many_parameters_as_published(
    system: str, data: str, size: tuple[int, ...], classes: int, millions: float | tuple[float, float]
):
    with torch.device("meta"):
        segmenter = build_segmenter(with_segmenter(sized(data, size), system), 3 if data == "phantoms" else 1, classes)
    least, most = millions if isinstance(millions, tuple) else (0.98 * millions, 1.02 * millions)
    assert least < parameters(segmenter) / 1e6 < most


@pytest.mark.parametrize(("system", "gigaflops"), [("unet", 102), ("msu-net", 152)])
def test_networks_compute_as_much_as_published(system: str, gigaflops: float):
    with torch.device("meta"):
        segmenter = build_segmenter(with_segmenter(sized("phantoms", (256, 256)), system), 3, 2).eval()
    with FlopCounterMode(display=False) as counter:
        segmenter.sample(torch.empty(1, 3, 256, 256, device="meta"), 1, torch.Generator())
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, rel=0.02)


@pytest.mark.parametrize(("data", "system"), APPLICABLE)
def test_votes_of_every_system_are_probabilities_at_the_size_of_training_and_at_another(
    data: str, system: str, rng: torch.Generator
):
    recipe, classes = small(data, system), 2 if data == "phantoms" else 3
    segmenter = build_segmenter(recipe, 1, classes).eval()
    assert segmenter.stochastic == recipe.segmenter.stochastic
    for size in (recipe.data.size, (*recipe.data.size[:-1], 2 * recipe.data.size[-1])):
        votes = segmenter.sample(torch.randn(2, 2 * recipe.data.neighbours + 1, *size, generator=rng), 3, rng)
        assert votes.shape == (3 if segmenter.stochastic else 1, 2, classes, *size)
        assert votes.min() >= 0
        torch.testing.assert_close(votes.sum(dim=2), torch.ones(votes[:, :, 0].shape))


@pytest.mark.parametrize(("data", "system"), APPLICABLE)
def test_every_player_of_every_system_learns_in_a_step(data: str, system: str, rng: torch.Generator):
    recipe, classes = small(data, system), 2 if data == "phantoms" else 3
    segmenter = build_segmenter(recipe, 1, classes, training=True).train()
    shake(segmenter)
    moved = set()
    for turn in segmenter.turns(random_batch(recipe, classes), rng, step=0):
        player = segmenter.players()[turn.player]
        player.zero_grad()
        turn.loss.backward()
        gradients = [p.grad for p in player.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        assert any(gradient.any() for gradient in gradients)
        moved.add(turn.player)
    assert moved == set(segmenter.players())
    assert segmenter.predictor in moved


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_further_outputs_weigh_less_and_all_weigh_one(decay: float, rng: torch.Generator):
    class Three(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.outputs = nn.Parameter(torch.tensor([3.0, 5.0, 11.0]))

        def forward(self, image: Tensor) -> list[Tensor]:
            return [value.expand(len(image), 2, *image.shape[2:]) for value in self.outputs]

    def loss(logits: Tensor, truth: Tensor) -> Mapping[str, Tensor]:
        assert truth.shape == logits.shape
        return {"once": logits.mean(), "tenfold": 10 * logits.mean()}

    segmenter = Supervised(Three(), 2, loss, decay)
    (turn,) = segmenter.turns(Batch(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4), ("a",)), rng, 0)
    weights = np.array([1, 0.5, 0.25]) / 1.75 if decay == 0.5 else np.ones(3) / 3
    mean = float(weights @ [3, 5, 11])
    assert turn.terms == pytest.approx({"once": mean, "tenfold": 10 * mean})
    assert float(turn.loss.detach()) == pytest.approx(11 * mean)
    turn.loss.backward()
    np.testing.assert_allclose(segmenter.network.outputs.grad, 11 * weights, rtol=1e-6)


# U-Nets


@pytest.mark.parametrize("classes", [2, 4])
def test_all_classes_weigh_alike_in_the_weighted_cross_entropy(classes: int):
    logits, label = normal(2, classes, 5, 6), torch.randint(classes, (2, 5, 6), generator=torch.Generator().manual_seed(0))
    label[0, 0] = 0
    counts = torch.bincount(label.flatten(), minlength=classes)
    assert (counts > 0).all()
    terms = weighted_cross_entropy(logits, one_hot(label, classes).double())
    torch.testing.assert_close(sum(terms.values()), F.cross_entropy(logits, label, weight=1.0 / counts.double()))


def test_a_class_that_does_not_occur_has_no_weight():
    logits, label = normal(1, 3, 4, 4), torch.arange(16).reshape(1, 4, 4) % 5 % 2 * 2  # classes 0 and 2
    weight = torch.tensor([1 / (label == 0).sum(), 123.0, 1 / (label == 2).sum()], dtype=torch.float64)
    terms = weighted_cross_entropy(logits, one_hot(label, 3).double())
    torch.testing.assert_close(sum(terms.values()), F.cross_entropy(logits, label, weight=weight))


def test_unetpp_predicts_the_mean_of_its_four_branches(rng: torch.Generator):
    segmenter, image = build_segmenter(small("phantoms", "unetpp"), 1, 2), torch.randn(2, 1, 32, 32, generator=rng)
    with torch.no_grad():
        branches = segmenter.network.train()(image)
    assert len(branches) == 4
    expected = sum(branch.softmax(dim=1) for branch in branches) / 4
    torch.testing.assert_close(segmenter.eval().sample(image, 1, rng)[0], expected, atol=1e-5, rtol=1e-4)


# Medical Transformer


def attention_in_a_loop(layer: GatedAxialAttention, x: np.ndarray, table: np.ndarray, scale: dict[str, float]) -> np.ndarray:
    """The docstring's sum for x `[C, L]`, where each batch normalisation divides by a number of its own."""
    channels, length = x.shape
    values, keys = layer.values, layer.keys
    g_q, g_k, g_v1, g_v2 = layer.gates.detach().numpy()
    qkv = layer.to_qkv[0].weight.detach().numpy()[:, :, 0] @ x / scale["qkv"]
    y = np.zeros((channels, length))
    for h in range(layer.heads):
        own = qkv[h * 2 * values : (h + 1) * 2 * values]
        q, k, v = own[:keys], own[keys : 2 * keys], own[2 * keys :]
        for i in range(length):
            r = [table[:, i - j + length - 1] for j in range(length)]
            terms = np.zeros(length)
            for j in range(length):
                by_position = g_q * (q[:, i] @ r[j][:keys]) + g_k * (k[:, j] @ r[j][keys : 2 * keys])
                terms[j] = (q[:, i] @ k[:, j] + by_position) / scale["terms"]
            weights = np.exp(terms) / np.exp(terms).sum()
            for c in range(values):
                total = sum(weights[j] * (g_v1 * v[c, j] + g_v2 * r[j][2 * keys + c]) for j in range(length))
                y[h * values + c, i] = total / scale["sums"]
    return y


def gated_attention(channels: int, span: int, heads: int) -> tuple[GatedAxialAttention, dict[str, float]]:
    """With random gates; in evaluation its three normalisations divide by 2, 3 and 5."""
    torch.manual_seed(0)
    layer = GatedAxialAttention(channels, span, heads).double().eval()
    norms = {"qkv": layer.to_qkv[1], "terms": layer.norm_terms, "sums": layer.norm_sums}
    scale = dict(zip(norms, (2.0, 3.0, 5.0), strict=True))
    for name, norm in norms.items():
        norm.eps = 0.0
        norm.running_var.fill_(scale[name] ** 2)
    layer.gates.data = normal(4, seed=2)
    return layer, scale


@pytest.mark.parametrize(("channels", "heads"), [(8, 2), (12, 3), (4, 1)])
def test_gated_axial_attention_is_the_plain_formula(channels: int, heads: int):
    layer, scale = gated_attention(channels, 5, heads)
    x = normal(3, channels, 5)
    with torch.no_grad():
        out = layer(x)
    for sample in range(3):
        expected = attention_in_a_loop(layer, x[sample].numpy(), layer.positions.detach().numpy(), scale)
        np.testing.assert_allclose(out[sample], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("length", [3, 9])
def test_positions_are_stretched_to_other_lengths_than_in_training(length: int):
    layer, scale = gated_attention(8, 5, 2)
    trained = layer.positions.detach().numpy()
    steps, wanted = np.linspace(-1, 1, trained.shape[1]), np.linspace(-1, 1, 2 * length - 1)
    table = np.stack([np.interp(wanted, steps, row) for row in trained])
    x = normal(2, 8, length)
    with torch.no_grad():
        np.testing.assert_allclose(layer(x)[1], attention_in_a_loop(layer, x[1].numpy(), table, scale), rtol=1e-9, atol=1e-12)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=20)
def test_patches_joined_are_the_image_they_were_cut_from(batch: int, channels: int, height: int, width: int):
    image = normal(batch, channels, 4 * height, 4 * width)
    patches = _cut(image)
    torch.testing.assert_close(_join(patches, batch), image, rtol=0, atol=0)
    second_row_last_column = patches[16 * (batch - 1) + 4 + 3]
    torch.testing.assert_close(second_row_last_column, image[-1, :, height : 2 * height, 3 * width :], rtol=0, atol=0)


# SegDiff


def dense_in_a_loop(block: DenseBlock, x: Tensor) -> Tensor:
    weights = list(block.parameters())
    assert len(weights) == 10
    for i in range(5):
        seen = x if i == 0 else torch.cat([seen, new], dim=1)  # noqa: F821 (the one before made them)
        new = F.conv2d(seen, weights[2 * i], weights[2 * i + 1], padding=1)
        new = torch.where(new > 0, new, 0.2 * new) if i < 4 else new
    return new


def test_dense_blocks_and_their_residuals_are_those_of_esrgan():
    torch.manual_seed(0)
    layer, x = RRDB(6, 4).double(), normal(2, 6, 5, 7)
    assert [c.weight.shape[:2] for c in layer.dense[0].convolutions] == [(4, 6), (4, 10), (4, 14), (4, 18), (6, 22)]
    with torch.no_grad():
        torch.testing.assert_close(layer.dense[1](x), dense_in_a_loop(layer.dense[1], x))
        first = x + 0.2 * dense_in_a_loop(layer.dense[0], x)
        second = first + 0.2 * dense_in_a_loop(layer.dense[1], first)
        third = second + 0.2 * dense_in_a_loop(layer.dense[2], second)
        torch.testing.assert_close(layer(x), x + 0.2 * third)


@pytest.mark.parametrize(("timesteps", "first", "last"), [(1000, 1e-4, 0.02), (100, 1e-3, 0.2)])
def test_the_linear_schedule_is_that_of_ddpm(timesteps: int, first: float, last: float):
    ours, theirs = linear_schedule(timesteps), DDPMScheduler(timesteps, "linear_beta", beta_start=first, beta_end=last)
    assert ours.timesteps == timesteps
    assert (ours.beta[0], ours.alpha_bar[0]) == (0, 1)
    torch.testing.assert_close(ours.beta[1:], theirs.betas)
    torch.testing.assert_close(ours.alpha[1:], theirs.alphas)
    torch.testing.assert_close(ours.alpha_bar[1:], theirs.alphas_cumprod, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_a_respaced_schedule_visits_noise_levels_of_the_full_one(steps: int):
    full, (schedule, original) = linear_schedule(100), respaced(100, steps)
    assert original.tolist() == list(range(0, 101, 100 // steps))
    torch.testing.assert_close(schedule.alpha_bar, full.alpha_bar[original])
    torch.testing.assert_close(schedule.alpha.cumprod(0), full.alpha_bar[original])
    torch.testing.assert_close(schedule.beta, 1 - schedule.alpha)
    if steps == 100:
        torch.testing.assert_close((schedule.beta, schedule.alpha), (full.beta, full.alpha))


def segdiff(**changes: object) -> SegDiff:
    recipe = small("phantoms", "segdiff-small")
    torch.manual_seed(0)
    segmenter = build_segmenter(replace(recipe, segmenter=replace(recipe.segmenter, **changes)), 1, 2)
    assert isinstance(segmenter, SegDiff)
    return segmenter.eval()


@pytest.mark.parametrize(("steps", "votes"), [(1, 1), (2, 3), (4, 2)])
def test_segdiff_encodes_an_image_once_however_many_steps_and_votes(
    steps: int, votes: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
):
    segmenter = segdiff(sampling_timesteps=steps)
    encode, noise, images, seen = segmenter.network.encode, segmenter.network.noise, [], []
    monkeypatch.setattr(segmenter.network, "encode", lambda image: images.append(image) or encode(image))
    monkeypatch.setattr(segmenter.network, "noise", lambda x, t, f: seen.append((len(x), *t.unique().tolist())) or noise(x, t, f))
    image = torch.randn(2, 1, 32, 32, generator=rng)
    segmenter.sample(image, votes, rng)
    assert len(images) == 1
    assert images[0] is image
    assert seen == [(2 * votes, step) for step in range(4, 0, -4 // steps)]


@pytest.mark.parametrize("mistake", [0.0, 0.5])
def test_segdiffs_loss_is_the_squared_error_of_the_noise(mistake: float, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch):
    segmenter, batch = segdiff(timesteps=100, sampling_timesteps=5), random_batch(small("phantoms", "segdiff-small"), 2, 4)
    label = 2.0 * batch.label[:, None] - 1

    def noise(x_t: Tensor, t: Tensor, features: Tensor) -> Tensor:
        alpha_bar = at(linear_schedule(100).alpha_bar, t, x_t)
        return (x_t - alpha_bar.sqrt() * label) / (1 - alpha_bar).sqrt() + mistake

    monkeypatch.setattr(segmenter.network, "noise", noise)
    (turn,) = segmenter.turns(batch, rng, 0)
    assert float(turn.loss.detach()) == pytest.approx(mistake**2, abs=1e-5)


@pytest.mark.parametrize("steps", [1, 5, 100])
def test_segdiff_draws_the_label_from_a_network_that_knows_it(steps: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch):
    segmenter = segdiff(timesteps=100, sampling_timesteps=steps)
    label = (torch.rand(1, 1, 32, 32, generator=rng) > 0.5).float()

    def noise(x_t: Tensor, t: Tensor, features: Tensor) -> Tensor:
        alpha_bar = at(linear_schedule(100).alpha_bar, t, x_t)
        return (x_t - alpha_bar.sqrt() * (2 * label - 1)) / (1 - alpha_bar).sqrt()

    monkeypatch.setattr(segmenter.network, "noise", noise)
    votes = segmenter.sample(torch.zeros(1, 1, 32, 32), 2, rng)
    torch.testing.assert_close(votes[:, :, 1], label[:, 0].expand(2, 1, -1, -1), atol=1e-3, rtol=0)


# DynUNet


@pytest.mark.parametrize(
    ("size", "spacing", "multiple", "sizes", "kernels"),
    [
        ((40, 56, 40), (1, 1, 1), 8, [(40, 56, 40), (20, 28, 20), (10, 14, 10), (5, 7, 5)], [(3, 3, 3)] * 4),
        (
            (64, 64, 16),
            (1, 1, 4),
            16,
            [(64, 64, 16), (32, 32, 16), (16, 16, 16), (8, 8, 8), (4, 4, 4)],
            [(3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3)],
        ),
        (
            (16, 64, 64),
            (4, 1, 1),
            16,
            [(16, 64, 64), (16, 32, 32), (16, 16, 16), (8, 8, 8), (4, 4, 4)],
            [(1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)],
        ),
        ((256, 256), None, 64, [(2**n, 2**n) for n in range(8, 1, -1)], [(3, 3)] * 7),
    ],
)
def test_dynunet_halves_axes_as_nnunet_does(
    size: tuple[int, ...],
    spacing: tuple[float, ...] | None,
    multiple: int,
    sizes: list[tuple[int, ...]],
    kernels: list[tuple[int, ...]],
):
    data, recipe = DataSettings(spatial_dims=len(size), size=size, spacing=spacing), DynUNetSettings()
    assert recipe.multiple(data) == multiple
    with torch.device("meta"):
        segmenter = dynunet.build(recipe, data, 1, 3, training=True).train()
    inner = segmenter.network.network
    seen = []
    for block in (inner.input_block, *inner.downsamples, inner.bottleneck):
        block.register_forward_hook(lambda block, _, out: seen.append((out.shape, next(block.parameters()).shape[2:])))
    outputs = segmenter.network(torch.empty(2, 1, *size, device="meta"))
    assert [shape[2:] for shape, _ in seen] == sizes
    assert [kernel for _, kernel in seen] == kernels
    most = 512 if len(size) == 2 else 320
    assert [shape[1] for shape, _ in seen] == [min(32 * 2**level, most) for level in range(len(sizes))]
    assert len(outputs) > 1
    assert all(output.shape == (2, 3, *size) for output in outputs)


@pytest.mark.parametrize("size", [(8, 8), (12, 12), (8, 8, 8)])
def test_a_patch_too_small_for_dynunet_is_refused(size: tuple[int, ...]):
    with pytest.raises(UserError, match="can be halved twice"):
        DynUNetSettings().check(DataSettings(spatial_dims=len(size), size=size))


@pytest.mark.parametrize(("size", "multiple"), [((16, 256), 64), ((64, 256), 64), ((256, 256, 16), 64)])
def test_a_short_axis_does_not_keep_dynunet_from_halving_the_others(size: tuple[int, ...], multiple: int):
    """The shortest voxel is that of the axes which can still be halved, and a kernel of 3 stays so."""
    data = DataSettings(spatial_dims=len(size), size=size)
    assert DynUNetSettings().multiple(data) == multiple
    with torch.device("meta"):
        segmenter = dynunet.build(DynUNetSettings(), data, 1, 2, training=True)
    assert {p.shape[2:] for block in segmenter.network.network.downsamples for p in block.parameters() if p.dim() > 2} <= {
        (3,) * len(size),
        (1,) * len(size),
    }


@pytest.mark.parametrize(("data", "system"), APPLICABLE)
def test_a_model_of_every_system_is_read_again(data: str, system: str, tmp_path: Path):
    recipe, classes = small(data, system), ("background", *("abc"[: 1 if data == "phantoms" else 2]))
    segmenter = build_segmenter(recipe, 1, len(classes)).eval()
    weights = segmenter.players()[segmenter.predictor].state_dict()
    save_model(tmp_path / "model.safetensors", weights, ModelHeader(recipe, classes, 1))
    loaded, header = load_model(tmp_path / "model.safetensors")
    assert header.recipe == recipe
    assert (tmp_path / "model.safetensors").stat().st_size < 4.2 * parameters(segmenter) + 100_000  # each weight once
    image = random_batch(recipe, len(classes)).image
    votes = [one.sample(image, 2, torch.Generator().manual_seed(0)) for one in (segmenter, loaded)]
    assert torch.equal(*votes)


def test_steps_whose_loss_depends_on_the_step_are_no_kind():
    """A recorded step would repeat the margin of EM-SegCaps that it was recorded with; one's own network may do anything."""
    recipe = small("phantoms", "em-segcaps")
    segmenter = build_segmenter(recipe, 1, 2, training=True)
    batch = random_batch(recipe, 2)

    def loss(step: int) -> float:
        torch.manual_seed(0)
        (turn,) = segmenter.turns(batch, torch.Generator().manual_seed(0), step)
        return float(turn.loss)

    with torch.no_grad():
        assert loss(3) != loss(4)
        assert loss(1000) == loss(2000)
    assert [segmenter.kind(step) for step in (0, 3, 999)] == [None] * 3
    assert segmenter.kind(1000) == segmenter.kind(2000) is not None
    assert Supervised(torch.nn.Identity(), 2, alike=False).kind(0) is None
