"""What every generator is: votes folded into the batch, labels folded into channels."""

from __future__ import annotations

import pytest
import torch

from helpers.diffusion import SIZES, make_generator
from helpers.segmenters import shake


@pytest.mark.parametrize("kind", ["fast", "paper"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("labels", [1, 3])
def test_votes_folded_into_the_batch_are_the_votes_one_by_one(
    kind: str, dims: int, labels: int, rng: torch.Generator
):
    generator = make_generator(kind, dims, labels)
    shake(generator)
    size, votes = SIZES[dims], 3
    image = torch.randn(2, 1, *size, generator=rng)
    x_t = generator.fold(torch.randn(votes * 2, labels, *size, generator=rng))
    level, z = torch.rand(votes * 2, generator=rng), torch.randn(votes * 2, 4, generator=rng)
    with torch.no_grad():
        together = generator.denoise(x_t, level, z, generator.encode(image)).unflatten(
            0, (votes, 2)
        )
        for v in range(votes):
            for b in range(2):
                i = v * 2 + b
                features = generator.encode(image[b : b + 1])
                alone = generator.denoise(x_t[i : i + 1], level[i : i + 1], z[i : i + 1], features)
                torch.testing.assert_close(together[v, b], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["fast", "paper"])
@pytest.mark.parametrize("what", ["x_t", "level", "z", "image"])
def test_the_prediction_depends_on_everything_it_is_given(
    kind: str, what: str, rng: torch.Generator
):
    generator = make_generator(kind, 2, 1)
    shake(generator)
    given_ = {
        "x_t": torch.randn(1, 1, 16, 24, generator=rng),
        "level": torch.tensor([0.5]),
        "z": torch.randn(1, 4, generator=rng),
        "image": torch.randn(1, 1, 16, 24, generator=rng),
    }

    def predict(values: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return generator.denoise(
                generator.fold(values["x_t"]),
                values["level"],
                values["z"],
                generator.encode(values["image"]),
            )

    other = given_ | {
        what: given_[what] * 0.5 + 0.1 * torch.randn(given_[what].shape, generator=rng)
    }
    assert (predict(given_) - predict(other)).abs().max() > 1e-5


@pytest.mark.parametrize("dims", [2, 3])
def test_fold_and_unfold_are_inverse_and_keep_each_label_together(dims: int, rng: torch.Generator):
    generator = make_generator("fast", dims, 3)
    x = torch.randn(2, 3, *SIZES[dims], generator=rng)
    folded = generator.fold(x)
    torch.testing.assert_close(generator.unfold(folded), x)
    torch.testing.assert_close(folded[:, : 4**dims], generator.fold(x[:, :1]))
