"""Monte-Carlo dropout: what is dropped, where, and that the network is the plain one without it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cdal.segmenters.baselines.mc_dropout import MCDropout, dropout, dropping
from cdal.segmenters.build import build_segmenter
from cdal.segmenters.losses import dice_and_cross_entropy
from cdal.segmenters.segmenter import one_hot
from helpers.systems import random_batch, small


def segmenter_of(dropout: float = 0.5) -> MCDropout:
    recipe = small("phantoms", "mc-dropout")
    torch.manual_seed(0)
    segmenter = build_segmenter(
        replace(recipe, segmenter=replace(recipe.segmenter, dropout=dropout)), 1, 2
    )
    assert isinstance(segmenter, MCDropout)
    return segmenter.eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(4))


def test_without_dropout_it_is_the_image_network(image: torch.Tensor):
    segmenter = segmenter_of()
    plain = build_segmenter(small("phantoms", "cdal-unet"), 1, 2).eval()
    plain.players()["network"].load_state_dict(segmenter.network.state_dict())
    expected = plain.sample(image, 1, torch.Generator())[0]
    with torch.no_grad():
        assert torch.equal(segmenter.network(image).softmax(dim=1), expected)
        segmenter.sample(image, 2, torch.Generator())  # dropout does not stay on afterwards
        assert torch.equal(segmenter.network(image).softmax(dim=1), expected)
    almost_none = segmenter_of(1e-9)
    torch.testing.assert_close(almost_none.sample(image, 2, torch.Generator())[1], expected)


def test_a_share_is_dropped_and_the_rest_is_scaled():
    x = torch.full((1000, 100), 3.0)
    dropped = dropout(x, 0.2, torch.Generator().manual_seed(0))
    assert set(dropped.unique().tolist()) == {0.0, 3.75}
    assert float((dropped == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(3.0, abs=0.02)


def test_dropout_is_before_each_block_below_full_resolution(image: torch.Tensor):
    """Of three levels: before blocks 2 and 3 of the encoder, and before block 1 of the decoder."""
    network, dropped = segmenter_of().network, set()

    def look(block: nn.Module, given: tuple[torch.Tensor]) -> None:
        if float((given[0] == 0).float().mean()) > 0.4:
            dropped.add(block)

    with dropping(network, 0.5, torch.Generator().manual_seed(0)):
        for block in (*network.down, *network.up):
            block.register_forward_pre_hook(look)
        with torch.no_grad():
            network(image)
    assert dropped == {network.down[1], network.down[2], network.up[0]}


def test_an_error_leaves_no_dropout_behind(image: torch.Tensor):
    segmenter = segmenter_of()
    with pytest.raises(RuntimeError), dropping(segmenter.network, 0.5, torch.Generator()):
        segmenter.network(image[:, :0])
    with torch.no_grad():
        assert torch.equal(segmenter.network(image), segmenter.network(image))


def test_each_vote_has_its_own_dropout_and_training_has_it_too(image: torch.Tensor):
    segmenter, batch = segmenter_of(), random_batch(small("phantoms", "mc-dropout"), 2)
    votes = segmenter.sample(image, 4, torch.Generator().manual_seed(0))
    assert len(votes.flatten(1).unique(dim=0)) == 4
    (turn,) = segmenter.turns(batch, torch.Generator().manual_seed(7), 0)
    with dropping(segmenter.network, 0.5, torch.Generator().manual_seed(7)):
        probabilities = segmenter.network(batch.image).softmax(dim=1)
    terms = dice_and_cross_entropy(probabilities, one_hot(batch.label, 2))
    torch.testing.assert_close(turn.loss, terms["dice"] + terms["cross_entropy"])
