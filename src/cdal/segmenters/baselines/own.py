r"""Any network as a segmenter: `--segmenter package.module.Class`.

The class is a `Segmenter`, or a torch module that maps images `[B, C, *S]` to logits `[B, K, *S]`.
In training, the module may return several outputs (deep supervision), the final one first. The
constructor gets `segmenter.options`, and those of the usual arguments that are in its signature,
under any of their usual names:

    cdal train hippocampus --segmenter monai.networks.nets.SegResNet \
        --segmenter.options '{"init_filters": 16}' ...
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
    "image_channels": (
        "image_channels",
        "in_channels",
        "n_channels",
        "input_channels",
        "in_chans",
        "channels_in",
    ),
    "classes": (
        "classes",
        "out_channels",
        "n_classes",
        "num_classes",
        "output_channels",
        "channels_out",
    ),
    "size": ("size", "img_size", "image_size", "input_size"),
}
"""Arguments that we can pass, and the names that constructors use for them."""


def build(
    settings: OwnSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`.

    Raises:
        UserError: the class cannot be imported, is not a network, cannot be constructed with the
            known arguments, or has no weights to train.
    """
    network_class = find_class(settings.name)
    values = {
        "spatial_dims": data.spatial_dims,
        "image_channels": image_channels,
        "classes": classes,
        "size": data.size,
    }
    accepted = inspect.signature(network_class).parameters
    known = {
        name: values[argument]
        for argument, names in _NAMES.items()
        for name in names
        if name in accepted
    }
    try:
        network = network_class(**{**known, **settings.options})
    except Exception as error:  # the constructor may raise anything
        given = ", ".join(
            f"{name}={value!r}" for name, value in {**known, **settings.options}.items()
        )
        raise UserError(
            f"{settings.name}({given}) failed: {error!r}. Give what is missing: "
            f"--segmenter.options '{{\"name\": value}}'. Its arguments: {', '.join(accepted)}."
        ) from error
    if not any(weights.requires_grad for weights in network.parameters()):
        raise UserError(f"{settings.name} has no weights that could be trained.")
    # An unknown network may do different operations in each step, for example if it draws random
    # numbers itself.
    return network if isinstance(network, Segmenter) else Supervised(network, classes, alike=False)


def find_class(name: str) -> type[nn.Module]:
    """Import the class of a network.

    Only subclasses of `torch.nn.Module` are accepted. Nothing else is ever called, regardless of
    the source of the name.

    Args:
        name: name of the class, `package.module.Class`.

    Raises:
        UserError: the class cannot be imported, or is not a network.
    """
    module, _, attribute = name.rpartition(".")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise UserError(f"the segmenter {name!r:.100} is no class: expected package.module.Class.")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing the module may raise anything
        raise UserError(
            f"the segmenter {name} cannot be imported: {error!r}. Expected package.module.Class; "
            "install the package, or name the folder that holds it in PYTHONPATH."
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UserError(
            f"the segmenter {name} must be a class of torch.nn.Module (or cdal.Segmenter); it is "
            f"{found!r}."
        )
    return found
