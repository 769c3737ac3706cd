"""The network of a bundle gives what `cdal predict` gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cdal
from cdal.imaging.image import Image
from cdal.inference.sharing.network import BundleNetwork
from cdal.runtime.errors import UserError
from helpers.files import OBLIQUE


class Placed(torch.Tensor):
    """A tensor with an affine and a file, as MONAI has them."""

    affine: torch.Tensor
    meta: dict[str, str]

    def __iter__(self):
        for values in self.as_subclass(torch.Tensor):
            item = values.as_subclass(Placed)
            item.affine, item.meta = self.affine, self.meta
            yield item

    def copy_meta_from(self, other: Placed) -> None:
        self.affine, self.meta = other.affine, other.meta


def test_the_mask_is_that_of_a_prediction(volume_model: Path):
    values = torch.randn(2, 1, 20, 18, 14, generator=torch.Generator().manual_seed(0))
    image = values.as_subclass(Placed)
    image.affine, image.meta = torch.from_numpy(OBLIQUE), {"filename_or_obj": "/x/case.nii.gz"}
    mask = BundleNetwork(volume_model)(image)
    assert mask.shape == (2, 3, 20, 18, 14) and mask.dtype == torch.float32
    assert torch.equal(mask.affine, image.affine)
    assert set(np.unique(mask.numpy())) == {0, 1} and torch.all(mask.sum(dim=1) == 1)
    predictor = cdal.load(volume_model)
    for given, made in zip(values, mask.as_subclass(torch.Tensor), strict=True):
        found = predictor.predict(Image(given.numpy(), OBLIQUE), case="case")
        np.testing.assert_array_equal(made.argmax(dim=0), found.mask)
        assert len(np.unique(found.mask)) > 1


def test_probabilities_and_options(volume_model: Path):
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    found = BundleNetwork(volume_model, output="probability", votes=1, seed=3)(image)
    predictor = cdal.load(volume_model, cdal.Sampling(votes=1, seed=3))
    expected = predictor.predict(Image(image[0].numpy()), case="array").probability
    np.testing.assert_array_equal(found[0], expected)


def test_weights_can_be_given_as_a_state_dictionary(trained: Path):
    one, other = BundleNetwork(trained), BundleNetwork(trained)
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(image), one(image))


@pytest.mark.parametrize(
    "options", [{"output": "votes"}, {"vote": 3}, {"votes": 0}, {"timesteps": 7}]
)
def test_what_is_not_possible_is_refused(options: dict[str, object], trained: Path):
    with pytest.raises(UserError):
        BundleNetwork(trained, **options)
