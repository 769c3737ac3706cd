"""The architecture as a picture; its numbers are the defaults of the recipe."""

from __future__ import annotations

from cdal.recipes.cdal import FOLD, CDALSettings
from tools.drawing import FAINT, Drawing

IMAGE, LABEL, NETWORK, CHANCE = "#ddf4ff", "#fff1c2", "#dafbe1", "#fbefff"
ONCE, OFTEN, TRAINED = "#f6fbff", "#fffbf0", "#f8f8f8"


def architecture(settings: CDALSettings | None = None) -> str:
    """Draw `cdal`: what runs once for an image, what runs for every vote and step, and training."""
    settings = settings or CDALSettings()
    drawing = Drawing(
        960, 640, "cDAL: a U-Net encodes the image once, a light denoiser draws the votes"
    )
    _encode(drawing, settings)
    _denoise(drawing, settings)
    _vote(drawing, settings)
    _train(drawing, settings)
    return drawing.svg()


def _encode(drawing: Drawing, settings: CDALSettings) -> None:
    """The image network: levels down, levels up, what it gives."""
    drawing.field(10, 10, 940, 190, "Encode: once for each image", ONCE)
    drawing.box(30, 70, 70, 70, "image", IMAGE)
    levels = len(settings.channels)
    down = [(130 + 52 * i, 120 - 22 * i) for i in range(levels)]
    up = [(130 + 52 * (2 * levels - 2 - i), 120 - 22 * i) for i in range(levels - 1)]
    middle = 105
    for i, (x, height) in enumerate(down):
        drawing.box(x, middle - height / 2, 30, height, str(settings.channels[i]), NETWORK)
        drawing.arrow((100 if i == 0 else x - 22, middle), (x, middle))
    for i, (x, height) in enumerate(up):
        drawing.box(x, middle - height / 2, 30, height, str(settings.channels[i]), NETWORK)
        drawing.arrow((x - 22, middle), (x, middle))
    end = up[0][0] + 30
    drawing.text(
        end + 10, 60, "residual U-Net, features at each level", anchor="start", colour=FAINT
    )
    drawing.arrow((end, middle), (640, middle))
    drawing.box(640, 75, 130, 60, "coarse\nsegmentation", LABEL)
    drawing.text(790, 100, "--timesteps 0", anchor="start", colour=FAINT)
    drawing.text(790, 115, "stops here", anchor="start", colour=FAINT)
    quarter = up[2][0] + 15 if levels > 3 else up[-1][0] + 15
    drawing.arrow((quarter, middle + 38), (quarter, 275), (330, 275), (330, 306))
    drawing.text(quarter + 8, 178, f"features at 1/{FOLD}", anchor="start", colour=FAINT)
    drawing.arrow((705, 135), (705, 306))
    drawing.text(713, 178, "logits", anchor="start", colour=FAINT)


def _denoise(drawing: Drawing, settings: CDALSettings) -> None:
    """One step of one vote, at a fraction of the resolution."""
    T = settings.sampling_timesteps
    told = f"Denoise: {T} steps a vote, at 1/{FOLD} of the resolution"
    drawing.field(10, 220, 940, 220, told, OFTEN)
    y = 315
    drawing.box(30, y - 25, 110, 50, "noisy label xₜ\nfolded", LABEL)
    drawing.arrow((140, y), (180, y))
    drawing.box(180, y - 20, 90, 40, "stem 1×1", NETWORK)
    drawing.arrow((270, y), (321, y))
    drawing.plus(330, y)
    drawing.arrow((339, y), (380, y))
    blocks = settings.denoiser_blocks
    noun = "residual block" if blocks == 1 else f"{blocks} residual blocks"
    drawing.box(380, y - 25, 150, 50, f"{noun}\n{settings.denoiser_channels} features", NETWORK)
    drawing.arrow((530, y), (570, y))
    drawing.box(570, y - 20, 80, 40, "head 1×1", NETWORK)
    drawing.arrow((650, y), (696, y))
    drawing.plus(705, y)
    drawing.arrow((714, y), (770, y))
    drawing.box(770, y - 25, 150, 50, "clean label x̂₀", LABEL)
    drawing.box(395, 370, 120, 40, "time t and\nrandom latent z", CHANCE)
    drawing.arrow((455, 370), (455, 340))
    drawing.box(570, 370, 230, 40, "posterior q(xₜ₋₁ | xₜ, x̂₀), noise", CHANCE)
    drawing.arrow((845, 340), (845, 390), (800, 390))
    drawing.arrow((570, 390), (540, 390), (540, 425), (85, 425), (85, 340))
    drawing.text(240, 418, "next step", colour=FAINT)


def _vote(drawing: Drawing, settings: CDALSettings) -> None:
    """From the clean labels of all votes to the results."""
    drawing.arrow((900, 340), (900, 490))
    drawing.box(810, 490, 130, 45, f"{settings.votes} votes", LABEL)
    drawing.arrow((810, 505), (760, 505))
    drawing.box(600, 480, 160, 40, "mean: mask", IMAGE)
    drawing.arrow((810, 525), (785, 525), (785, 555), (760, 555))
    drawing.box(600, 535, 160, 40, "spread: uncertainty", IMAGE)


def _train(drawing: Drawing, settings: CDALSettings) -> None:
    """What is there in training only."""
    drawing.field(10, 460, 560, 165, "Training only", TRAINED)
    drawing.box(30, 500, 150, 50, "label x₀ × attention\n+ noise = xₜ", LABEL, dashed=True)
    drawing.arrow((60, 500), (60, 340), dashed=True)
    every = settings.discriminator_every
    drawing.box(240, 500, 140, 50, f"discriminator\nat every {every}th step", NETWORK, dashed=True)
    drawing.arrow((240, 515), (180, 515), dashed=True)
    drawing.text(210, 508, "map", colour=FAINT)
    drawing.box(430, 500, 120, 50, "real or fake\n(xₜ₋₁, xₜ)", LABEL, dashed=True)
    drawing.arrow((430, 525), (380, 525), dashed=True)
    drawing.text(30, 580, "losses: squared error (Eq. 4), energy score of", anchor="start")
    votes = settings.training_votes
    drawing.text(
        30, 597, f"{votes} votes, Dice, cross-entropy, coarse Dice, adversarial", anchor="start"
    )


if __name__ == "__main__":
    print(architecture(), end="")
