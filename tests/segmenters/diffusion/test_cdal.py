"""The two algorithms of the paper."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.cdal import paper
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.diffusion.cdal import CDAL
from cdal.segmenters.diffusion.labels import label_channels, to_probabilities
from cdal.segmenters.diffusion.schedule import diffuse, make_schedule
from cdal.segmenters.segmenter import one_hot
from helpers.diffusion import KINDS, make_batch, make_cdal
from helpers.recipes import small_recipe
from helpers.segmenters import shake


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


def test_the_discriminator_moves_first_then_the_generator(rng: torch.Generator):
    turns = list(make_cdal().turns(make_batch(), rng, 0))
    assert [turn.player for turn in turns] == ["discriminator", "generator"]
    assert {"r1", "discriminator"} == set(turns[0].terms)


def test_each_turn_moves_its_own_player_only(rng: torch.Generator):
    segmenter = make_cdal()
    for turn in segmenter.turns(make_batch(), rng, 0):
        segmenter.zero_grad(set_to_none=True)
        turn.loss.backward()
        for name, player in segmenter.players().items():
            moved = any(p.grad is not None and p.grad.abs().sum() > 0 for p in player.parameters())
            assert moved == (name == turn.player)


@pytest.mark.parametrize("classes", [2, 3])
def test_votes_that_are_certain_and_wrong_everywhere_still_learn(
    classes: int, rng: torch.Generator
):
    """Background with logits beyond the precision of a probability, after some too large steps."""
    segmenter = make_cdal(classes, coarse=0.0, adversarial=0.0)
    bias = segmenter.generator.head.bias
    assert isinstance(bias, Tensor)
    with torch.no_grad():
        bias.fill_(-60.0 if classes == 2 else 0.0)
        bias[: 0 if classes == 2 else len(bias) // classes] = 60.0
    *_, turn = segmenter.turns(make_batch(classes), rng, 0)
    turn.loss.backward()
    assert bias.grad is not None
    # Cross-entropy alone moves a logit by the share of its class: 1/2 or 1/3 of a pixel's weight.
    assert bias.grad.abs().max() > 0.2 / classes / len(bias)


def test_the_gradient_penalty_is_lazy(rng: torch.Generator):
    segmenter = make_cdal(discriminator_every=1, r1_every=4)
    with_penalty = [
        step for step in range(9) if "r1" in next(segmenter.turns(make_batch(), rng, step)).terms
    ]
    assert with_penalty == [0, 4, 8]


def test_the_discriminator_may_take_turns_seldom():
    """Between its turns it is not there; at them its opinion weighs for all the steps since the
    last one.
    """
    often, seldom = make_cdal(discriminator_every=1), make_cdal(discriminator_every=4, r1_every=2)
    seldom.load_state_dict(often.state_dict())
    turns = {
        step: {
            turn.player: turn.terms
            for turn in seldom.turns(make_batch(), torch.Generator().manual_seed(step), step)
        }
        for step in range(9)
    }
    assert [step for step, players in turns.items() if "discriminator" in players] == [0, 4, 8]
    assert ["r1" in turns[step]["discriminator"] for step in (0, 4, 8)] == [True, False, True]
    assert all(
        ("adversarial" in players["generator"]) == ("discriminator" in players)
        for players in turns.values()
    )
    always = [
        turn.terms for turn in often.turns(make_batch(), torch.Generator().manual_seed(4), 4)
    ][-1]
    assert float(turns[4]["generator"]["adversarial"]) == pytest.approx(
        4 * float(always["adversarial"])
    )


class LinearCritic(nn.Module):
    """D(x, x_t, t) = <w, x>, whose squared gradient is |w|^2 everywhere."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor, x_t: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        return (x * self.w).flatten(1).sum(dim=1), x


def test_the_gradient_penalty_is_half_the_squared_gradient(rng: torch.Generator):
    segmenter = make_cdal(r1=0.5, r1_every=4)
    w = torch.randn(16, 8, 8, generator=rng)  # of a folded label
    segmenter.discriminator = LinearCritic(w)
    turn = next(segmenter.turns(make_batch(), rng, 0))
    assert float(turn.terms["r1"]) == pytest.approx(0.5 * 4 * float(w.square().sum()) / 2, rel=1e-5)


def test_the_paper_is_the_squared_error_of_equation_4(rng: torch.Generator):
    """With no discriminator (attention none) the paper's loss is that of a prediction from q(x_t |
    x_0), draw by draw.
    """
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


def noised(segmenter: CDAL, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """x_t of the generator's turn, at a step at which the discriminator has none."""
    seen: list[Tensor] = []
    denoise = segmenter.generator.denoise
    monkeypatch.setattr(
        segmenter.generator, "denoise", lambda x_t, *more: seen.append(x_t) or denoise(x_t, *more)
    )
    (turn,) = segmenter.turns(batch, torch.Generator().manual_seed(5), 1)
    monkeypatch.undo()
    assert turn.player == "generator"
    return seen[-1].unflatten(0, (-1, len(batch.image)))[0]


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 16, 16), (0.5, 4, 12), (1.0, 0, 0)])
def test_recycling_builds_a_share_of_x_t_from_the_generators_own_guess(
    share: float, least: int, most: int, monkeypatch: pytest.MonkeyPatch
):
    """What is built from the label changes with it, and what is built from the guess changes with
    the generator's weights.
    """
    segmenter, batch = make_cdal(recycling=share), make_batch(count=16)
    shake(segmenter)
    plain = noised(segmenter, batch, monkeypatch)
    inverted = noised(segmenter, batch._replace(label=1 - batch.label), monkeypatch)
    with torch.no_grad():
        segmenter.generator.unet.head.bias.add_(0.5)
    otherwise = noised(segmenter, batch, monkeypatch)
    by_label, by_weights = (
        (other != plain).flatten(1).any(dim=1) for other in (inverted, otherwise)
    )
    assert torch.equal(by_label, ~by_weights)
    assert least <= int(by_label.sum()) <= most


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_attention_trains(kind: str, classes: int):
    """A small step of a player down its gradient lowers its loss in the same turn."""
    segmenter, batch = make_cdal(classes, attention=kind), make_batch(classes)

    def losses() -> dict[str, Tensor]:
        return {
            turn.player: turn.loss
            for turn in segmenter.turns(batch, torch.Generator().manual_seed(5), 0)
        }

    for name, player in segmenter.players().items():
        segmenter.zero_grad()
        before = losses()[name]
        before.backward()
        gradients = [parameter.grad for parameter in player.parameters()]
        squared = sum(float(gradient.square().sum()) for gradient in gradients)
        with torch.no_grad():
            for parameter, gradient in zip(player.parameters(), gradients, strict=True):
                parameter -= 1e-3 / squared * gradient
        assert float(before.detach() - losses()[name].detach()) == pytest.approx(1e-3, rel=0.3)


@pytest.mark.parametrize(
    "name", ["squared_error", "energy", "dice", "cross_entropy", "coarse", "adversarial"]
)
def test_every_term_can_be_switched_off(name: str, rng: torch.Generator):
    on = list(make_cdal().turns(make_batch(), rng, 0))[-1].terms
    off = list(make_cdal(**{name: 0.0}).turns(make_batch(), rng, 0))[-1].terms
    assert set(on) - set(off) == {name}


def test_a_step_with_a_given_generator_of_randomness_is_repeatable():
    first, second = (
        [
            turn.loss.item()
            for turn in make_cdal().turns(make_batch(), torch.Generator().manual_seed(9), 4)
        ]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("T", [1, 2, 4])
def test_sampling_gives_votes_of_probabilities(classes: int, T: int, rng: torch.Generator):
    segmenter = make_cdal(classes, sampling_timesteps=T).eval()
    p = segmenter.sample(make_batch().image, 3, rng)
    assert p.shape == (3, 4, classes, 32, 32)
    torch.testing.assert_close(p.sum(dim=2), torch.ones(3, 4, 32, 32))


def test_sampling_follows_algorithm_2_with_its_noise():
    """One vote of two steps, written out on whole labels; the denoiser is so wide that `see` loses
    nothing.
    """
    segmenter = make_cdal(sampling_timesteps=2, denoiser_channels=16).eval()
    nn.init.normal_(
        segmenter.generator.head.weight, std=0.1, generator=torch.Generator().manual_seed(0)
    )
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
        mean = (math.sqrt(alpha) * (1 - bar[1]) * x2 + math.sqrt(bar[1]) * (1 - alpha) * guess) / (
            1 - bar[2]
        )
        x1 = mean + math.sqrt((1 - bar[1]) / (1 - bar[2]) * (1 - alpha)) * noise[1]
        x0 = segmenter.generator.unfold(
            segmenter.generator.denoise(x1, torch.full((1,), 0.5), z[1], features)
        )
    torch.testing.assert_close(p[0, 0, 1], ((x0 + 1) / 2)[0, 0], rtol=1e-3, atol=1e-4)


def test_votes_do_not_depend_on_how_many_there_are():
    segmenter = make_cdal(sampling_timesteps=2).eval()
    nn.init.normal_(
        segmenter.generator.head.weight, std=0.1, generator=torch.Generator().manual_seed(0)
    )
    image = make_batch(count=2).image
    two, five = (
        segmenter.sample(image, votes, torch.Generator().manual_seed(4)) for votes in (2, 5)
    )
    torch.testing.assert_close(two, five[:2], rtol=1e-4, atol=1e-5)
    assert (five[0] - five[1]).abs().max() > 1e-3


def test_votes_are_the_same_with_numbers_drawn_apart():
    segmenter = make_cdal(sampling_timesteps=2).eval()
    nn.init.normal_(
        segmenter.generator.head.weight, std=0.1, generator=torch.Generator().manual_seed(0)
    )
    image = make_batch(count=3).image
    expected = segmenter.sample(image, 2, torch.Generator().manual_seed(4))
    draws = segmenter.draw_apart(image, 2, torch.Generator().manual_seed(4))
    assert segmenter.draws_apart and len(draws) == 3
    torch.testing.assert_close(segmenter.sample_drawn(image, draws), expected)
    alone = segmenter.sample_drawn(image[1:2], draws[1:2])
    torch.testing.assert_close(alone, expected[:, 1:2], rtol=1e-4, atol=1e-5)


def test_no_steps_is_the_coarse_segmentation_alone(rng: torch.Generator):
    segmenter = make_cdal(sampling_timesteps=0).eval()
    image = make_batch().image
    p = segmenter.sample(image, 5, rng)
    assert not segmenter.stochastic
    assert p.shape[0] == 1
    torch.testing.assert_close(
        p[0, :, 1:], segmenter.generator.unet(image).sigmoid(), rtol=1e-4, atol=1e-5
    )


def test_the_image_is_encoded_once(rng: torch.Generator):
    segmenter, calls = make_cdal(sampling_timesteps=4).eval(), []
    segmenter.generator.unet.head.register_forward_hook(lambda *_: calls.append(1))
    segmenter.sample(make_batch().image, 15, rng)
    assert len(calls) == 1


def test_annotators_are_further_samples_with_the_features_of_their_image():
    """The terms of two annotators are the mean of the terms of each, where no draw is involved: the
    coarse segmentation's.
    """
    segmenter, batch = make_cdal(dice=0.0, iou_energy=1.0), make_batch()
    shake(segmenter)
    others = (1 - batch.label)[None]

    def coarse(of_batch: Batch) -> float:
        (turn,) = segmenter.turns(of_batch, torch.Generator().manual_seed(5), 1)
        assert torch.isfinite(turn.loss) and "iou_energy" in turn.terms
        return float(turn.terms["coarse"])

    both = coarse(batch._replace(others=others))
    assert both != pytest.approx(coarse(batch))
    repeated = coarse(batch._replace(others=batch.label[None]))
    assert repeated == pytest.approx(coarse(batch), rel=1e-4)
    (judged, turn) = segmenter.turns(
        batch._replace(others=others), torch.Generator().manual_seed(5), 0
    )
    assert (judged.player, turn.player) == ("discriminator", "generator")
