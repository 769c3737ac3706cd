"""Any network as a segmenter: `--segmenter package.module.Class`.

The class is a torch module, `[B, C, *S] -> [B, K, *S]` logits (several outputs in training are deep supervision, the final one
first), or a `Segmenter`. It is made with those of the usual arguments that its signature has, under any of their usual names, and
with `segmenter.options`:

    cdal train hippocampus --segmenter monai.networks.nets.SegResNet --segmenter.options '{"init_filters": 16}' ...
"""

from __future__ import annotations

import importlib
import inspect

from torch import nn

from cdal.recipes.baselines import OwnSettings
from cdal.recipes.settings import DataSettings
from cdal.runtime.errors import UserError
from cdal.segmenters.segmenter import Segmenter, Supervised

_NAMES: dict[str, tuple[str, ...]] = {
    "spatial_dims": ("spatial_dims",),
    "image_channels": ("image_channels", "in_channels", "n_channels", "input_channels", "in_chans", "channels_in"),
    "classes": ("classes", "out_channels", "n_classes", "num_classes", "output_channels", "channels_out"),
    "size": ("size", "img_size", "image_size", "input_size"),
}
"""What we know, and how constructors call it."""


def build(settings: OwnSettings, data: DataSettings, image_channels: int, classes: int, training: bool) -> Segmenter:
    """See `cdal.segmenters.build`.

    Raises:
        UserError: the class cannot be imported, is no network, or cannot be made with what is known.
    """
    kind = find_class(settings.name)
    values = {"spatial_dims": data.spatial_dims, "image_channels": image_channels, "classes": classes, "size": data.size}
    accepted = inspect.signature(kind).parameters
    known = {name: values[what] for what, names in _NAMES.items() for name in names if name in accepted}
    try:
        network = kind(**{**known, **settings.options})
    except Exception as error:  # whatever the constructor does
        given = ", ".join(f"{name}={value!r}" for name, value in {**known, **settings.options}.items())
        raise UserError(
            f"{settings.name}({given}) failed: {error!r}. Give what is missing: --segmenter.options '{{\"name\": value}}'. "
            f"Its arguments: {', '.join(accepted)}."
        ) from error
    if not any(weights.requires_grad for weights in network.parameters()):
        raise UserError(f"{settings.name} has no weights that could be trained.")
    # Nobody knows what it does: a network that draws numbers by itself, say, is not alike in any two steps.
    return network if isinstance(network, Segmenter) else Supervised(network, classes, alike=False)


def find_class(name: str) -> type[nn.Module]:
    """The network's class. Nothing but subclasses of `torch.nn.Module` is ever called, wherever the name comes from.

    Raises:
        UserError: it cannot be imported, or is no network.
    """
    module, _, attribute = name.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module does when it is imported
        raise UserError(
            f"the segmenter {name} cannot be imported: {error!r}. Expected package.module.Class; install the package, or name the "
            "folder that holds it in PYTHONPATH."
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"the segmenter {name} must be a class of torch.nn.Module (or cdal.Segmenter); it is {kind!r}.")
    return kind
