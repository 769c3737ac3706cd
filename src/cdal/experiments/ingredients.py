"""Table 1 of the paper with additional controls: the effect of each ingredient of cDAL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdal.experiments.experiment import Arm, Experiment
from cdal.inference.sampling import Sampling

_NO_ENERGY = {"segmenter.energy": 0, "segmenter.iou_energy": 0, "segmenter.training_votes": 1}

_NO_ADVERSARY = {"segmenter.adversarial": 0}

_NO_RECYCLING = {"segmenter.recycling": 0}

_SQUARED_ALONE = {"segmenter.dice": 0, "segmenter.cross_entropy": 0}

_QUARTER = {"segmenter.attention_downsample": 4}
"""The attention map at a quarter of the resolution, the finest of the fast generator."""

_SIXTEENTH = {
    "segmenter.attention_downsample": 16,
    "segmenter.discriminator_channels": (32, 64, 64),
}
"""The attention map at a sixteenth of the resolution; the default is an eighth."""


def ingredients(
    recipe: str, steps: int, fields: Mapping[str, Any], large: bool = False
) -> Experiment:
    """An experiment that leaves out each ingredient or replaces it by a control.

    All variants train for the same number of steps. The trained models of the first variant are
    also sampled in other ways.

    Args:
        recipe: name of the recipe that the variants change.
        steps: number of steps of every training.
        fields: changed values of the recipe for all variants, by field name.
        large: whether the images are large enough for an attention map at a sixteenth of their
            resolution.
    """
    arms = {
        "cdal": Arm(),
        "no z": Arm(fields={"segmenter.latent": 0}),
        "constant z": Arm("cdal-constant-z"),
        "no attention": Arm(fields={"segmenter.attention": "none"}),
        "constant attention": Arm(fields={"segmenter.attention": "constant"}),
        "shuffled attention": Arm(fields={"segmenter.attention": "shuffled"}),
        "raw attention": Arm(fields={"segmenter.attention": "raw"}),
        "attention at a quarter": Arm(fields=_QUARTER),
        **({"attention at a sixteenth": Arm(fields=_SIXTEENTH)} if large else {}),
        "no adversarial term": Arm(fields=_NO_ADVERSARY),
        "no adversarial term nor attention": Arm(
            fields={**_NO_ADVERSARY, "segmenter.attention": "none"}
        ),
        "discriminator at every fourth step": Arm(fields={"segmenter.discriminator_every": 4}),
        "no energy score": Arm(fields=_NO_ENERGY),
        "no recycling": Arm(fields=_NO_RECYCLING),
        "squared error alone": Arm(fields=_SQUARED_ALONE),
        "no squared error": Arm(fields={"segmenter.squared_error": 0}),
        "no moving average": Arm(fields={"training.ema": 0}),
        "the paper's losses": Arm(
            fields={
                **_NO_ENERGY,
                **_NO_ADVERSARY,
                **_NO_RECYCLING,
                **_SQUARED_ALONE,
                "segmenter.attention": "raw",
            }
        ),
        "no diffusion": Arm("cdal-deterministic"),
        "image network alone": Arm("cdal-unet"),
    }
    samplings = {
        "its coarse segmentation": Sampling(votes=1, timesteps=0),
        "1 vote of 1 step": Sampling(votes=1, timesteps=1),
        "5 votes of 1 step": Sampling(votes=5, timesteps=1),
        "1 vote of 2 steps": Sampling(votes=1, timesteps=2),
        "15 votes of 2 steps": Sampling(votes=15, timesteps=2),
        "5 votes of 4 steps": Sampling(votes=5, timesteps=4),
    }
    return Experiment(
        f"ingredients-{recipe}",
        "What does each ingredient of cDAL do for accuracy and for uncertainty, and does it do "
        "more than its control?",
        recipe,
        arms,
        fields,
        samplings,
        budget=f"{steps}steps",
    )
