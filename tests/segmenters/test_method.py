"""Attention, losses, and the two algorithms of the paper."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.cdal import ImageUNetSettings, paper
from cdal.recipes.recipe import CDALSettings
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.attention import attention_map
from cdal.segmenters.diffusion.cdal import CDAL, label_channels, to_probabilities
from cdal.segmenters.diffusion.schedule import diffuse, make_schedule
from cdal.segmenters.losses import dice_and_cross_entropy, energy_score
from cdal.segmenters.segmenter import one_hot
from helpers.recipes import small_recipe

KINDS = ("raw", "normalised", "none", "constant", "shuffled")


def make(classes: int = 2, **changes: object) -> CDAL:
    torch.manual_seed(0)
    recipe = small_recipe()
    segmenter = build_segmenter(replace(recipe, segmenter=replace(recipe.segmenter, **changes)), 1, classes, training=True)
    assert isinstance(segmenter, CDAL)
    return segmenter


def make_batch(classes: int = 2, count: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(count, 1, 32, 32, generator=generator)
    label = torch.randint(classes, (count, 32, 32), generator=generator)
    return Batch(image, label, tuple(f"case{i}" for i in range(count)))


# Attention


def test_raw_map_is_the_mean_over_channels(rng: torch.Generator):
    features = torch.randn(2, 5, 4, 4, generator=rng)
    torch.testing.assert_close(attention_map(features, (4, 4), "raw", rng)[:, 0], features.mean(dim=1))


@given(st.sampled_from(["normalised", "shuffled"]), st.integers(0, 100), st.sampled_from([(16, 16), (8, 8, 8)]))
@settings(max_examples=20)
def test_normalised_maps_have_mean_one_and_are_not_negative(kind: str, seed: int, size: tuple[int, ...]):
    rng = torch.Generator().manual_seed(seed)
    features = 0.01 * torch.randn(3, 5, *[s // 4 for s in size], generator=rng) - 0.01
    A = attention_map(features, size, kind, rng)
    assert A.shape == (3, 1, *size)
    assert A.min() >= 0
    torch.testing.assert_close(A.flatten(1).mean(dim=1), torch.ones(3), rtol=1e-4, atol=1e-4)


def test_shuffled_map_has_the_values_of_the_map_in_other_places(rng: torch.Generator):
    features = torch.randn(1, 3, 8, 8, generator=rng)
    plain, shuffled = (attention_map(features, (8, 8), kind, rng) for kind in ("normalised", "shuffled"))
    torch.testing.assert_close(plain.flatten().sort().values, shuffled.flatten().sort().values)
    assert not torch.allclose(plain, shuffled)


def test_constant_map_is_the_mean_of_the_raw_one(rng: torch.Generator):
    features = torch.randn(2, 3, 8, 8, generator=rng)
    constant = attention_map(features, (16, 16), "constant", rng)
    assert constant.shape == (2, 1, 16, 16)
    torch.testing.assert_close(constant[:, 0, 3, 5], features.mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_flows_through_a_map(kind: str, rng: torch.Generator):
    features = torch.randn(2, 3, 8, 8, generator=rng, requires_grad=True)
    assert not attention_map(features, (16, 16), kind, rng).requires_grad


def test_a_flat_map_is_one(rng: torch.Generator):
    torch.testing.assert_close(attention_map(torch.ones(1, 2, 4, 4), (8, 8), "normalised", rng), torch.ones(1, 1, 8, 8))


# Losses


def test_cross_entropy_is_that_of_torch(rng: torch.Generator):
    logits = torch.randn(3, 4, 6, 6, generator=rng)
    label = torch.randint(4, (3, 6, 6), generator=rng)
    terms = dice_and_cross_entropy(logits.softmax(dim=1), one_hot(label, 4), cross_entropy=0.5)
    torch.testing.assert_close(terms["cross_entropy"], 0.5 * F.cross_entropy(logits, label))


def test_dice_loss_is_the_formula(rng: torch.Generator):
    p = torch.rand(2, 3, 4, 4, generator=rng).softmax(dim=1)
    y = one_hot(torch.randint(3, (2, 4, 4), generator=rng), 3)
    overlap = 2 * (p * y).sum(dim=(0, 2, 3)) / (p + y).sum(dim=(0, 2, 3))
    torch.testing.assert_close(dice_and_cross_entropy(p, y)["dice"], 1 - overlap[1:].mean(), rtol=1e-4, atol=1e-5)


def test_energy_score_is_the_plain_double_loop(rng: torch.Generator):
    votes, truth = torch.randn(4, 2, 1, 3, 3, generator=rng), torch.randn(2, 1, 3, 3, generator=rng)
    v, y = votes.numpy().astype(float), truth.numpy().astype(float)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return math.sqrt(((a - b) ** 2).mean())

    expected = []
    for b in range(2):
        near = np.mean([distance(v[i, b], y[b]) for i in range(4)])
        apart = np.mean([distance(v[i, b], v[j, b]) for i, j in itertools.permutations(range(4), 2)])
        expected.append(near - apart / 2)
    assert float(energy_score(votes, truth)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_energy_score_prefers_votes_spread_like_the_truth_to_their_mean(rng: torch.Generator):
    """Annotators say +1 or -1 by chance. Votes that do so too score better than votes that all say 0, or all say +1."""
    scores = {"spread": 0.0, "mean": 0.0, "one": 0.0}
    for _ in range(400):
        truth = torch.randint(2, (1, 1, 1, 1), generator=rng).float() * 2 - 1
        spread = torch.randint(2, (2, 1, 1, 1, 1), generator=rng).float() * 2 - 1
        for name, votes in (("spread", spread), ("mean", torch.zeros_like(spread)), ("one", torch.ones_like(spread))):
            scores[name] += float(energy_score(votes, truth)) / 400
    assert scores["spread"] < scores["mean"] - 0.2
    assert scores["spread"] < scores["one"] - 0.2


def test_energy_score_of_equal_votes_has_a_finite_gradient():
    votes = torch.zeros(2, 1, 1, 4, 4, requires_grad=True)
    energy_score(votes, torch.zeros(1, 1, 4, 4)).backward()
    assert torch.isfinite(votes.grad).all()


def test_energy_score_needs_two_votes():
    with pytest.raises(ValueError, match="at least 2"):
        energy_score(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 2, 2))


# Labels and probabilities


@pytest.mark.parametrize("classes", [2, 3])
def test_labels_go_to_minus_one_and_one_and_back(classes: int, rng: torch.Generator):
    label = torch.randint(classes, (2, 5, 5), generator=rng)
    x0 = label_channels(one_hot(label, classes))
    assert x0.shape[1] == (1 if classes == 2 else classes)
    assert set(x0.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(to_probabilities(x0).argmax(dim=1), label)


@given(st.integers(1, 4), st.floats(0.1, 5))
@settings(max_examples=20)
def test_probabilities_add_up_to_one_whatever_the_network_says(channels: int, scale: float):
    p = to_probabilities(scale * torch.randn(2, channels, 4, 4))
    torch.testing.assert_close(p.sum(dim=1), torch.ones(2, 4, 4))
    assert p.min() >= 0


# Algorithm 1


def test_the_discriminator_moves_first_then_the_generator(rng: torch.Generator):
    turns = list(make().turns(make_batch(), rng, 0))
    assert [turn.player for turn in turns] == ["discriminator", "generator"]
    assert {"r1", "discriminator"} == set(turns[0].terms)


def test_each_turn_moves_its_own_player_only(rng: torch.Generator):
    segmenter = make()
    for turn in segmenter.turns(make_batch(), rng, 0):
        segmenter.zero_grad(set_to_none=True)
        turn.loss.backward()
        for name, player in segmenter.players().items():
            moved = any(p.grad is not None and p.grad.abs().sum() > 0 for p in player.parameters())
            assert moved == (name == turn.player)


def test_the_gradient_penalty_is_lazy(rng: torch.Generator):
    segmenter = make(discriminator_every=1, r1_every=4)
    with_penalty = [step for step in range(9) if "r1" in next(segmenter.turns(make_batch(), rng, step)).terms]
    assert with_penalty == [0, 4, 8]


def test_the_discriminator_may_take_turns_seldom():
    """Between its turns it is not there; at them its opinion weighs for all the steps since the last one."""
    often, seldom = make(discriminator_every=1), make(discriminator_every=4, r1_every=2)
    seldom.load_state_dict(often.state_dict())
    turns = {
        step: {turn.player: turn.terms for turn in seldom.turns(make_batch(), torch.Generator().manual_seed(step), step)}
        for step in range(9)
    }
    assert [step for step, players in turns.items() if "discriminator" in players] == [0, 4, 8]
    assert ["r1" in turns[step]["discriminator"] for step in (0, 4, 8)] == [True, False, True]
    assert all(("adversarial" in players["generator"]) == ("discriminator" in players) for players in turns.values())
    always = [turn.terms for turn in often.turns(make_batch(), torch.Generator().manual_seed(4), 4)][-1]
    assert float(turns[4]["generator"]["adversarial"]) == pytest.approx(4 * float(always["adversarial"]))


class LinearCritic(nn.Module):
    """D(x, x_t, t) = <w, x>, whose squared gradient is |w|^2 everywhere."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor, x_t: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        return (x * self.w).flatten(1).sum(dim=1), x


def test_the_gradient_penalty_is_half_the_squared_gradient(rng: torch.Generator):
    segmenter = make(r1=0.5, r1_every=4)
    w = torch.randn(16, 8, 8, generator=rng)  # of a folded label
    segmenter.discriminator = LinearCritic(w)
    turn = next(segmenter.turns(make_batch(), rng, 0))
    assert float(turn.terms["r1"]) == pytest.approx(0.5 * 4 * float(w.square().sum()) / 2, rel=1e-5)


def test_the_paper_is_the_squared_error_of_equation_4(rng: torch.Generator):
    """With no discriminator (attention none) the paper's loss is that of a prediction from q(x_t | x_0), draw by draw."""
    settings = replace(paper(), channels=(8, 12, 16), embedding=16, latent=4, attention="none")
    recipe = replace(small_recipe(), segmenter=settings)
    torch.manual_seed(0)
    segmenter, batch = build_segmenter(recipe, 1, 2, training=True), make_batch()
    assert list(segmenter.players()) == ["generator"]
    (turn,) = segmenter.turns(batch, torch.Generator().manual_seed(5), 1)

    again = torch.Generator().manual_seed(5)
    x0 = batch.label[:, None].float() * 2 - 1
    t = torch.randint(1, 3, (4,), generator=again)
    x_t = diffuse(make_schedule(2), x0, t, torch.randn(x0.shape, generator=again))
    z = torch.randn(4, 4, generator=again)
    x0_hat = segmenter.generator.denoise(x_t, t / 2, z, segmenter.generator.encode(batch.image))
    torch.testing.assert_close(turn.loss, (x0_hat - x0).square().mean())


def test_recycling_builds_x_t_from_the_generators_own_guess(rng: torch.Generator):
    segmenter, batch = make(recycling=1.0), make_batch()
    features = segmenter.generator.encode(batch.image)
    attended = torch.full((4, 16, 8, 8), 7.0)
    assert not (segmenter._recycled(attended, features, rng) == 7).any()
    none = make(recycling=0.0)
    assert none._recycled(attended, features, rng) is attended


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_attention_trains(kind: str, classes: int, rng: torch.Generator):
    for turn in make(classes, attention=kind).turns(make_batch(classes), rng, 0):
        assert torch.isfinite(turn.loss)
        turn.loss.backward()


@pytest.mark.parametrize("name", ["squared_error", "energy", "dice", "cross_entropy", "coarse", "adversarial"])
def test_every_term_can_be_switched_off(name: str, rng: torch.Generator):
    on = list(make().turns(make_batch(), rng, 0))[-1].terms
    off = list(make(**{name: 0.0}).turns(make_batch(), rng, 0))[-1].terms
    assert set(on) - set(off) == {name}


def test_a_step_with_a_given_generator_of_randomness_is_repeatable():
    first, second = (
        [turn.loss.item() for turn in make().turns(make_batch(), torch.Generator().manual_seed(9), 4)] for _ in range(2)
    )
    assert first == second


# Algorithm 2


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("T", [1, 2, 4])
def test_sampling_gives_votes_of_probabilities(classes: int, T: int, rng: torch.Generator):
    segmenter = make(classes, sampling_timesteps=T).eval()
    p = segmenter.sample(make_batch().image, 3, rng)
    assert p.shape == (3, 4, classes, 32, 32)
    torch.testing.assert_close(p.sum(dim=2), torch.ones(3, 4, 32, 32))


def test_sampling_follows_algorithm_2_with_its_noise():
    """One vote of two steps, written out on whole labels; the denoiser is so wide that `see` loses nothing."""
    segmenter = make(sampling_timesteps=2, denoiser_channels=16).eval()
    nn.init.normal_(segmenter.generator.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    image = make_batch(count=1).image
    p = segmenter.sample(image, 1, torch.Generator().manual_seed(4))
    noise, z = segmenter.draw(image, 1, torch.Generator().manual_seed(4))
    assert noise.shape == (2, 1, 16, 8, 8)  # as many numbers as the label has
    bar = [1.0, math.exp(-0.05 - 19.9 / 8), math.exp(-0.1 - 19.9 / 2)]
    alpha = bar[2] / bar[1]
    with torch.no_grad():
        features = segmenter.generator.encode(image)
        x2 = noise[0]
        guess = segmenter.generator.denoise(x2, torch.ones(1), z[0], features)
        mean = (math.sqrt(alpha) * (1 - bar[1]) * x2 + math.sqrt(bar[1]) * (1 - alpha) * guess) / (1 - bar[2])
        x1 = mean + math.sqrt((1 - bar[1]) / (1 - bar[2]) * (1 - alpha)) * noise[1]
        x0 = segmenter.generator.unfold(segmenter.generator.denoise(x1, torch.full((1,), 0.5), z[1], features))
    torch.testing.assert_close(p[0, 0, 1], ((x0 + 1) / 2)[0, 0], rtol=1e-3, atol=1e-4)


def test_votes_do_not_depend_on_how_many_there_are():
    segmenter = make(sampling_timesteps=2).eval()
    nn.init.normal_(segmenter.generator.head.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    image = make_batch(count=2).image
    two, five = (segmenter.sample(image, votes, torch.Generator().manual_seed(4)) for votes in (2, 5))
    torch.testing.assert_close(two, five[:2], rtol=1e-4, atol=1e-5)
    assert (five[0] - five[1]).abs().max() > 1e-3


def test_no_steps_is_the_coarse_segmentation_alone(rng: torch.Generator):
    segmenter = make(sampling_timesteps=0).eval()
    image = make_batch().image
    p = segmenter.sample(image, 5, rng)
    assert not segmenter.stochastic
    assert p.shape[0] == 1
    torch.testing.assert_close(p[0, :, 1:], segmenter.generator.unet(image).sigmoid(), rtol=1e-4, atol=1e-5)


def test_the_image_is_encoded_once(rng: torch.Generator):
    segmenter, calls = make(sampling_timesteps=4).eval(), []
    segmenter.generator.unet.head.register_forward_hook(lambda *_: calls.append(1))
    segmenter.sample(make_batch().image, 15, rng)
    assert len(calls) == 1


def test_a_plain_network_is_a_segmenter_too(rng: torch.Generator):
    segmenter = build_segmenter(replace(small_recipe(), segmenter=ImageUNetSettings(channels=(8, 12, 16))), 1, 3)
    (turn,) = segmenter.turns(make_batch(3), rng, 0)
    assert turn.player == segmenter.predictor
    assert segmenter.sample(make_batch(3).image, 5, rng).shape == (1, 4, 3, 32, 32)


def test_the_default_keeps_every_ingredient():
    """The paper's three: a discriminator, its attention, and a latent; none is lost by default."""
    default = CDALSettings()
    assert default.attention == "normalised"
    assert default.adversarial > 0
    assert default.latent > 0
