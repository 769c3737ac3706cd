"""Draws of a rank are the slices of those of the whole batch."""

from __future__ import annotations

import torch

from cdal.segmenters.draws import rand, randint, randn, slice_generator


def whole(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_alone_the_draws_are_those_of_torch():
    rng, like = slice_generator(whole(), 0, 1, 4), torch.zeros(1)
    by_hand = whole()
    assert torch.equal(randn((4, 2), rng, like), torch.randn(4, 2, generator=by_hand))
    assert torch.equal(rand((4, 2), rng, like), torch.rand(4, 2, generator=by_hand))
    assert torch.equal(randint(1, 5, 4, rng, like), torch.randint(1, 5, (4,), generator=by_hand))


def test_the_slices_of_all_ranks_are_the_whole_draw():
    """Samples are images, for each vote or annotator again; draw after draw."""
    images, votes, like = 6, 2, torch.zeros(1)
    for ranks in (2, 3):
        own, rng = images // ranks, whole()
        slices = [slice_generator(whole(), rank, ranks, own) for rank in range(ranks)]
        for axis, shape in ((0, (votes * own, 5)), (1, (3, votes * own, 2))):
            parts = [randn(shape, one, like, axis).unflatten(axis, (votes, own)) for one in slices]
            size = tuple(images * votes if i == axis else n for i, n in enumerate(shape))
            expected = torch.randn(size, generator=rng).unflatten(axis, (votes, images))
            assert torch.equal(torch.cat(parts, dim=axis + 1), expected)
        parts = [randint(0, 9, own, one, like) for one in slices]
        assert torch.equal(torch.cat(parts), torch.randint(0, 9, (images,), generator=rng))
        parts = [rand((own, 3), one, like) for one in slices]
        assert torch.equal(torch.cat(parts), torch.rand(images, 3, generator=rng))
