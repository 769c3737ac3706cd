"""The shapes of public functions: one table, and checks that hold for every test.

`check_shapes` wraps the functions, so that each call in any test is checked. One letter stands for
one length throughout a call: V votes, B images, C channels, K classes, L label channels, T
timesteps, N samples of any kind, `*S` two or three axes of space.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import torch
from beartype.door import die_if_unbearable
from jaxtyping import Float, Float32, Integer, UInt8, jaxtyped
from torch import Tensor

Array = np.ndarray


class Fields(dict[str, Any]):
    """Attributes of an object, each with its shape."""


class Values:
    """A mapping, all of whose values have this shape."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


class Each:
    """An iterator, each of whose items has this shape."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


@dataclass(frozen=True)
class Shapes:
    """The shapes of a function's arguments, by name, and of its result. Arguments that are left out
    are not looked at.
    """

    result: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)


def shapes(result: Any, **arguments: Any) -> Shapes:
    return Shapes(result, arguments)


_VOTES = shapes(Float[Tensor, "V B K *S"], image=Float[Tensor, "B C *S"])
_VOTES_OF_ARRAYS = shapes(Float32[Array, "V B K *S"], image=Float32[Array, "B C *S"])
_VOTES_OF_GRAPH = shapes(Float32[Array, "V K *S"])
_NOISED = {"t": Integer[Tensor, " B"], "noise": Float[Tensor, "B L *S"]}
_LOSSES = shapes(Values(Float[Tensor, ""]), truth=Float[Tensor, "B K *S"])
_FEATURES = shapes(
    Fields(condition=Float[Tensor, "B D *R"], coarse=Float[Tensor, "B E *F"] | None),
    image=Float[Tensor, "B C *S"],
)
_DENOISED = shapes(
    Float[Tensor, "N L *F"], seen=Float[Tensor, "N D *F"], embedding=Float[Tensor, "N E"]
)
_NORMAL = Fields(mean=Float[Tensor, "B N"], log_deviation=Float[Tensor, "B N"])
_SAME = Float[Tensor, "B C *S"]

SHAPES: dict[str, dict[str, Shapes]] = {
    "cdal.imaging.grid": {
        "Frame.read": shapes(Float32[Array, "C h *rest"]),
        "Frame.back": shapes(Each(Float[Array, "N h *rest"])),
        "to_grid": shapes(Fields(array=Float32[Array, "C *S"])),
        "label_to_grid": shapes(UInt8[Array, "*S"]),
        "resized": shapes(Float32[Array, "C H W"], values=Float[Array, "C h w"]),
    },
    "cdal.imaging.slices": {
        "slices_with_neighbours": shapes(
            Float[Array, "N D H W"], image=Float[Array, "C x y z"], indices=Integer[Array, " N"]
        )
    },
    "cdal.inference.decision": {
        "spread": shapes(Float[Array, "*S"], votes=Float[Array, "V K *S"]),
        "temper": shapes(Float[Array, "K *S"], probability=Float[Array, "K *S"]),
        "decide": shapes(UInt8[Array, "*S"], probability=Float[Array, "K *S"]),
        "keep_components": shapes(UInt8[Array, "*S"], mask=UInt8[Array, "*S"]),
    },
    "cdal.inference.voting": {
        "draw_votes": shapes(Float32[Array, "V K *S"], image=Float32[Array, "C *S"]),
        "vote_bands": shapes(Each(Float32[Array, "V K h *rest"])),
    },
    "cdal.inference.windows": {"blend": shapes(Each(Float32[Array, "V K h *rest"]))},
    "cdal.inference.predictor": {
        "Predictor.predict": shapes(
            Fields(
                mask=UInt8[Array, "*S"],
                probability=Float32[Array, "K *S"],
                uncertainty=Float32[Array, "*S"],
                votes=Float32[Array, "V K *S"] | None,
                on_grid=Float32[Array, "K H W"] | None,
            )
        ),
        "Predictor.bands": shapes(
            Each(
                Fields(
                    probability=Float32[Array, "K h *rest"],
                    uncertainty=Float32[Array, "h *rest"],
                    votes=Float32[Array, "V K h *rest"] | None,
                )
            )
        ),
        "Prediction.mask_at": shapes(UInt8[Array, "H W"]),
    },
    "cdal.inference.torch_engine": {"TorchEngine.sample": _VOTES_OF_ARRAYS},
    "cdal.inference.ensemble_engine": {"EnsembleEngine.sample": _VOTES_OF_ARRAYS},
    "cdal.inference.graph_engine": {
        "GraphEngine.sample": _VOTES_OF_ARRAYS,
        "OnnxEngine.votes": _VOTES_OF_GRAPH,
        "OpenVinoEngine.votes": _VOTES_OF_GRAPH,
        "ProgramEngine.votes": _VOTES_OF_GRAPH,
    },
    "cdal.segmenters.random_inputs": {
        "RandomInputs.draw": shapes(Values(Float32[Array, "T V ..."]))
    },
    "cdal.segmenters.segmenter": {
        "Supervised.sample": _VOTES,
        "one_hot": shapes(Float[Tensor, "B K *S"], label=Integer[Tensor, "B *S"]),
    },
    "cdal.segmenters.losses": {
        "dice_and_cross_entropy": shapes(
            _LOSSES.result, **_LOSSES.arguments, probabilities=Float[Tensor, "B K *S"]
        ),
        "energy_score": shapes(
            Float[Tensor, ""], votes=Float[Tensor, "V B L *S"], truth=Float[Tensor, "B L *S"]
        ),
        "iou_energy_score": shapes(
            Float[Tensor, ""], votes=Float[Tensor, "V B L *S"], truth=Float[Tensor, "B L *S"]
        ),
    },
    "cdal.segmenters.diffusion.schedule": {
        "at": shapes(
            Float[Tensor, "B 1 *ones"],
            table=Float[Tensor, " T"],
            t=Integer[Tensor, " B"],
            x=Float[Tensor, "B L *S"],
        ),
        "diffuse": shapes(Float[Tensor, "B L *S"], x0=Float[Tensor, "B L *S"], **_NOISED),
        "diffuse_one_step": shapes(
            Float[Tensor, "B L *S"], x_previous=Float[Tensor, "B L *S"], **_NOISED
        ),
        "posterior": shapes(
            (Float[Tensor, "B L *S"], Float[Tensor, "B 1 *ones"]),
            x0=Float[Tensor, "B L *S"],
            x_t=Float[Tensor, "B L *S"],
            t=Integer[Tensor, " B"],
        ),
        "sample_posterior": shapes(
            Float[Tensor, "B L *S"],
            x0=Float[Tensor, "B L *S"],
            x_t=Float[Tensor, "B L *S"],
            **_NOISED,
        ),
    },
    "cdal.segmenters.diffusion.attention": {
        "attention_map": shapes(Float[Tensor, "B 1 *S"], features=Float[Tensor, "B C *R"]),
        "upsample": shapes(Float[Tensor, "B 1 *S"], x=Float[Tensor, "B 1 *R"]),
        "normalise": shapes(Float[Tensor, "B 1 *S"], x=Float[Tensor, "B 1 *S"]),
    },
    "cdal.segmenters.diffusion.blocks": {
        "space_to_depth": shapes(Float[Tensor, "B D *F"], x=Float[Tensor, "B C *S"]),
        "depth_to_space": shapes(Float[Tensor, "B C *S"], x=Float[Tensor, "B D *F"]),
        "sinusoidal_embedding": shapes(Float[Tensor, "B E"], level=Float[Tensor, " B"]),
        "Modulation.forward": shapes(
            Float[Tensor, "B E"], level=Float[Tensor, " B"], z=Float[Tensor, "B L"] | None
        ),
        "AdaptiveGroupNorm.forward": shapes(_SAME, x=_SAME, embedding=Float[Tensor, "B E"]),
        "ResidualBlock.forward": shapes(
            Float[Tensor, "B D *F"], x=Float[Tensor, "B C *S"], embedding=Float[Tensor, "B E"]
        ),
        "SelfAttention.forward": shapes(_SAME, x=_SAME),
    },
    "cdal.segmenters.diffusion.generator": {
        "Generator.denoise": shapes(
            Float[Tensor, "N D *F"],
            x_t=Float[Tensor, "N D *F"],
            level=Float[Tensor, " N"],
            z=Float[Tensor, "N L"],
        ),
        "Generator.fold": shapes(Float[Tensor, "N D *F"], x=Float[Tensor, "N L *S"]),
        "Generator.unfold": shapes(Float[Tensor, "N L *S"], x=Float[Tensor, "N D *F"]),
    },
    "cdal.segmenters.diffusion.fast": {
        "FastGenerator.encode": _FEATURES,
        "FastGenerator.see": shapes(Float[Tensor, "N C *F"], x=Float[Tensor, "N D *F"]),
        "FastGenerator.denoise_seen": _DENOISED,
        "ImageUNet.forward": shapes(Float[Tensor, "B L *S"], image=Float[Tensor, "B C *S"]),
        "to_x0": shapes(Float[Tensor, "B L *S"], logits=Float[Tensor, "B L *S"]),
    },
    "cdal.segmenters.diffusion.paper": {
        "PaperGenerator.encode": _FEATURES,
        "PaperGenerator.denoise_seen": _DENOISED,
    },
    "cdal.segmenters.diffusion.discriminator": {
        "Discriminator.forward": shapes(
            (Float[Tensor, " B"], Float[Tensor, "B C *R"]),
            x_previous=Float[Tensor, "B D *F"],
            x_t=Float[Tensor, "B D *F"],
            level=Float[Tensor, " B"],
        )
    },
    "cdal.segmenters.diffusion.cdal": {
        "CDAL.sample": _VOTES,
        "CDAL.segment": _VOTES,
        "CDAL.draw": shapes(Fields(noise=Float[Tensor, "T N D *F"], z=Float[Tensor, "T N L"])),
        "label_channels": shapes(Float[Tensor, "B L *S"], truth=Float[Tensor, "B K *S"]),
        "to_probabilities": shapes(Float[Tensor, "B K *S"], x0=Float[Tensor, "B L *S"]),
        "seen_noise": shapes(
            Float[Tensor, "N C *F"], noise=Float[Tensor, "N D *F"], root=Float[Tensor, "C D"] | None
        ),
    },
    "cdal.segmenters.baselines.segdiff": {
        "SegDiff.sample": _VOTES,
        "Denoiser.encode": shapes(Float[Tensor, "B D H W"], image=Float[Tensor, "B C H W"]),
        "Denoiser.noise": shapes(
            Float[Tensor, "B L H W"],
            x_t=Float[Tensor, "B L H W"],
            t=Integer[Tensor, " B"],
            features=Float[Tensor, "B D H W"],
        ),
        "RRDB.forward": shapes(_SAME, x=_SAME),
        "DenseBlock.forward": shapes(_SAME, x=_SAME),
    },
    "cdal.segmenters.baselines.prob_unet": {
        "ProbUNet.sample": _VOTES,
        "LatentUNet.combine": shapes(
            Float[Tensor, "B K *S"], features=Float[Tensor, "B W *S"], z=Float[Tensor, "B N"]
        ),
        "LatentNet.forward": shapes(_NORMAL, x=Float[Tensor, "B C *S"]),
        "kl_divergence": shapes(Float[Tensor, " B"], first=_NORMAL, second=_NORMAL),
    },
    "cdal.segmenters.baselines.ssn": {
        "SSN.sample": _VOTES,
        "SSN.distribution": shapes(
            Fields(
                mean=Float[Tensor, "B K *S"],
                factor=Float[Tensor, "B R K *S"],
                variance=Float[Tensor, "B K *S"],
            ),
            image=Float[Tensor, "B C *S"],
        ),
        "log_likelihood": shapes(
            Float[Tensor, " B"], logits=Float[Tensor, "M B K *S"], truth=Float[Tensor, "B K *S"]
        ),
    },
    "cdal.segmenters.baselines.mc_dropout": {"MCDropout.sample": _VOTES},
    "cdal.segmenters.baselines.capsules": {
        "dynamic_routing": shapes(Float[Tensor, "B M D *S"], votes=Float[Tensor, "B N M D *S"]),
        "ConvolutionalCapsules.forward": shapes(
            Float[Tensor, "B M D *F"], x=Float[Tensor, "B N A *S"]
        ),
        "lengths": shapes(Float[Tensor, "B M *S"], capsules=Float[Tensor, "B M D *S"]),
        "margin_loss": shapes(
            Float[Tensor, ""], lengths=Float[Tensor, "B K *S"], truth=Float[Tensor, "B K *S"]
        ),
        "shares": shapes(Float[Tensor, "B K *S"], scores=Float[Tensor, "B K *S"]),
        "reconstruction_loss": shapes(
            Float[Tensor, ""],
            guess=Float[Tensor, "B C *S"],
            image=Float[Tensor, "B C *S"],
            truth=Float[Tensor, "B K *S"],
        ),
    },
    "cdal.segmenters.baselines.em_segcaps": {
        "EMSegCaps.sample": _VOTES,
        "MatrixCapsules.forward": shapes(
            (Float[Tensor, "B M 16 h w"], Float[Tensor, "B M h w"]),
            pose=Float[Tensor, "B N 16 H W"],
            activation=Float[Tensor, "B N H W"],
        ),
        "em_routing": shapes(
            (Float[Tensor, "B M P *S"], Float[Tensor, "B M *S"]),
            votes=Float[Tensor, "B N M P *S"],
            activation=Float[Tensor, "B N *S"],
            beta_u=Float[Tensor, " M"],
            beta_a=Float[Tensor, " M"],
        ),
        "spread_loss": shapes(
            Float[Tensor, ""], activation=Float[Tensor, "B K *S"], truth=Float[Tensor, "B K *S"]
        ),
    },
    "cdal.segmenters.baselines.multi_segcaps": {"MultiSegCaps.sample": _VOTES},
    "cdal.segmenters.baselines.ucaps_3d": {
        "UCaps3D.sample": _VOTES,
        "CapsuleUNet3D.forward": shapes(Float[Tensor, "B K *S"], image=Float[Tensor, "B C *S"]),
    },
    "cdal.segmenters.baselines.u_shape": {
        "UShape.forward": shapes(Float[Tensor, "B K *S"], image=Float[Tensor, "B C *S"]),
    },
    "cdal.segmenters.baselines.medt": {
        "MedT.forward": shapes(Float[Tensor, "B K H W"], image=Float[Tensor, "B C H W"]),
        "AxialBlock.forward": shapes(Float[Tensor, "B D h w"], x=Float[Tensor, "B C H W"]),
        "GatedAxialAttention.forward": shapes(Float[Tensor, "N C L"], x=Float[Tensor, "N C L"]),
    },
    "cdal.segmenters.baselines.res_unet": {
        "weighted_cross_entropy": shapes(
            _LOSSES.result, **_LOSSES.arguments, logits=Float[Tensor, "B K *S"]
        )
    },
}
"""By module and name."""


def check(value: Any, shape: Any) -> None:
    """Refuse a value of another shape or type.

    Lengths that go by one letter are compared inside `jaxtyped("context")`.

    Raises:
        BeartypeDoorHintViolation: it is of another.
    """
    if isinstance(shape, Fields):
        for name, expected in shape.items():
            check(getattr(value, name), expected)
    elif isinstance(shape, Values):
        for one in value.values():
            check(one, shape.shape)
    elif isinstance(shape, tuple):
        for one, expected in zip(value, shape, strict=True):
            check(one, expected)
    else:
        die_if_unbearable(value, shape)


def checked(function: Callable[..., Any], expected: Shapes) -> Callable[..., Any]:
    """The function, whose arguments and result are checked whenever it is called, but not while a
    graph is traced.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*given: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():  # lengths are symbols then, and comparing would fix them
            return function(*given, **named)
        bound = signature.bind(*given, **named).arguments
        with jaxtyped("context"):
            for name, shape in expected.arguments.items():
                check(bound[name], shape)
            result = function(*given, **named)
            if not isinstance(expected.result, Each):
                check(result, expected.result)
        return _each(result, expected.result.shape) if isinstance(expected.result, Each) else result

    return wrapper


def _each(items: Iterator[Any], shape: Any) -> Iterator[Any]:
    for item in items:
        with jaxtyped("context"):
            check(item, shape)
        yield item


def check_shapes() -> None:
    """Wrap every function of the table, wherever it was imported to."""
    for module_name, functions in SHAPES.items():
        module = importlib.import_module(module_name)
        for name, expected in functions.items():
            *path, last = name.split(".")
            owner: Any = functools.reduce(getattr, path, module)
            function = vars(owner)[last]
            wrapper = checked(function, expected)
            setattr(owner, last, wrapper)
            if isinstance(owner, ModuleType):
                _replace(function, wrapper)


def _replace(function: Callable[..., Any], wrapper: Callable[..., Any]) -> None:
    """Put the wrapper in the function's place in modules that imported it before."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("cdal", "helpers"):
            for attribute in [key for key, value in vars(module).items() if value is function]:
                setattr(module, attribute, wrapper)
