"""All segmenters by name, with their default settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import NamedTuple

from cdal.recipes.baselines import (
    EMSegCapsSettings,
    MedTSettings,
    MSUNetSettings,
    MultiSegCapsSettings,
    OwnSettings,
    ResUNetSettings,
    SegDiffSettings,
    SegDiffSmallSettings,
    UCaps3DSettings,
    UNet3DSettings,
    UNetPlusPlusSettings,
    UNetSettings,
)
from cdal.recipes.cdal import CDALSettings, ImageUNetSettings, constant_z, deterministic, paper
from cdal.recipes.dynunet import DynUNetSettings
from cdal.recipes.probabilistic import MCDropoutSettings, ProbUNetSettings, SSNSettings
from cdal.recipes.settings import SegmenterSettings
from cdal.runtime.errors import UserError


class System(NamedTuple):
    """A segmenter that can be selected by name.

    Attributes:
        about: description in one line.
        settings: function that returns its default settings.
    """

    about: str
    settings: Callable[[], SegmenterSettings]


SYSTEMS: dict[str, System] = {
    "cdal": System(
        "few-step conditional diffusion, encode once and denoise at a quarter of the resolution "
        "(the default)",
        CDALSettings,
    ),
    "cdal-paper": System(
        "Hejrati et al., MICCAI 2024: the paper's network and losses, slice by slice", paper
    ),
    "cdal-deterministic": System("control: the network of cdal without diffusion", deterministic),
    "cdal-constant-z": System("control: cdal with a constant z", constant_z),
    "cdal-unet": System("control: the image network of cdal alone", ImageUNetSettings),
    "unet": System("U-Net (Ronneberger et al., MICCAI 2015), slice by slice", UNetSettings),
    "unet-3d": System("3D U-Net (Çiçek et al., MICCAI 2016), volumes", UNet3DSettings),
    "unetpp": System("U-Net++ (Zhou et al., DLMIA 2018), slice by slice", UNetPlusPlusSettings),
    "msu-net": System(
        "MSU-Net (Su et al., Frontiers in Genetics 2021), slice by slice", MSUNetSettings
    ),
    "res-unet": System(
        "weighted Res-UNet (Xiao et al., ITME 2018), slice by slice", ResUNetSettings
    ),
    "medt": System(
        "Medical Transformer (Valanarasu et al., MICCAI 2021), slice by slice", MedTSettings
    ),
    "segdiff": System("SegDiff (Amit et al., 2021), slice by slice", SegDiffSettings),
    "segdiff-small": System(
        "SegDiff, narrower and sampled in fewer steps, for a CPU", SegDiffSmallSettings
    ),
    "multi-segcaps": System(
        "Multi-SegCaps (Survarachakan et al., CVCS 2020), five slices at once",
        MultiSegCapsSettings,
    ),
    "em-segcaps": System(
        "EM-SegCaps (Survarachakan et al., CVCS 2020), slice by slice", EMSegCapsSettings
    ),
    "3d-ucaps": System("3D-UCaps (Nguyen et al., MICCAI 2021), volumes", UCaps3DSettings),
    "dynunet": System(
        "MONAI's DynUNet, shaped as nnU-Net would (Isensee et al., 2021)", DynUNetSettings
    ),
    "prob-unet": System(
        "Probabilistic U-Net (Kohl et al., NeurIPS 2018) on the image network of cdal",
        ProbUNetSettings,
    ),
    "ssn": System(
        "Stochastic Segmentation Network (Monteiro et al., NeurIPS 2020) on the image network of "
        "cdal",
        SSNSettings,
    ),
    "mc-dropout": System(
        "Monte-Carlo dropout (Gal & Ghahramani, ICML 2016) in the image network of cdal",
        MCDropoutSettings,
    ),
}
"""All systems by name, except your own networks, which are named by their class."""


def default_settings(name: str) -> SegmenterSettings:
    """The default settings of a segmenter.

    Args:
        name: name of a system, or the class of your own network, `package.module.Class`.

    Raises:
        UserError: no such segmenter exists; the message lists all.
    """
    if name in SYSTEMS:
        return SYSTEMS[name].settings()
    if "." in name:
        return OwnSettings(name)
    close = difflib.get_close_matches(name, SYSTEMS, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(
        f"no segmenter {name!r}.{hint} The segmenters are: {', '.join(SYSTEMS)}; or the class of "
        "your own network, package.module.Class."
    )
