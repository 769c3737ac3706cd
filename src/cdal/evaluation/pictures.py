"""Pictures for report pages: a case with its votes, reliability, and risk against coverage."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def embed(picture: Path | Figure) -> str:
    """Encode a PNG file or a figure as base64."""
    if isinstance(picture, Path):
        return base64.b64encode(picture.read_bytes()).decode()
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=90)
    return base64.b64encode(buffer.getvalue()).decode()


def case_picture(
    image: np.ndarray,
    truth: np.ndarray,
    probability: np.ndarray,
    uncertainty: np.ndarray,
    votes: np.ndarray,
    disagreement: np.ndarray,
) -> str:
    """Draw one 2D case with two classes as a row of pictures.

    Args:
        image: image, `[H, W]`.
        truth: true mask, `[H, W]`.
        probability: foreground probability, `[H, W]`.
        uncertainty: spread of the votes, `[H, W]`.
        votes: foreground probability of each vote, `[V, H, W]`; the first four are shown.
        disagreement: spread of the annotators, `[H, W]`.

    Returns:
        The PNG picture, base64-encoded.
    """
    panels = [
        ("image", image, "gray", None),
        ("truth (line) on image", image, "gray", None),
        ("segmentation", image, "gray", None),
        ("uncertainty", uncertainty, "magma", 0.5),
        ("annotators' spread", disagreement, "magma", 0.5),
        *[(f"vote {i + 1}", vote, "gray", 1.0) for i, vote in enumerate(votes[:4])],
    ]
    figure = Figure(figsize=(1.55 * len(panels), 1.8), layout="constrained")
    for axis, (title, values, colours, top) in zip(
        figure.subplots(1, len(panels)), panels, strict=True
    ):
        axis.imshow(
            values, cmap=colours, vmin=0 if top else None, vmax=top, interpolation="nearest"
        )
        outline = {"truth (line) on image": truth.astype(float), "segmentation": probability}.get(
            title
        )
        if outline is not None and outline.min() < 0.5 < outline.max():
            axis.contour(outline, [0.5], colors="#ff9f1c", linewidths=1.2)
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    return embed(figure)


def certainty_figure(uncertainty: Mapping[str, Any]) -> Figure:
    """Draw the reliability diagram and the risk-coverage curve.

    Args:
        uncertainty: the entry `uncertainty` of `Evaluation.summary`.
    """
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    reliability, risk = figure.subplots(1, 2)
    voxels, confidence, right = (
        np.array(uncertainty["reliability"][name]) for name in ("voxels", "confidence", "right")
    )
    used = voxels > 0
    reliability.plot([0, 1], [0, 1], color="#888888", linewidth=1)
    reliability.plot(
        confidence[used] / voxels[used],
        right[used] / voxels[used],
        "o-",
        color="#1f77b4",
        markersize=4,
    )
    reliability.set(
        xlabel="largest probability",
        ylabel="share of voxels that are right",
        title=f"reliability, ECE {uncertainty['ece']:.4f}",
    )
    reliability.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for name, values in uncertainty["risk"].items():
        if name != "coverage":
            risk.plot(uncertainty["risk"]["coverage"], values, label=f"surest by {name}")
    risk.set(
        xlabel="coverage",
        ylabel="share of voxels that are wrong",
        title="risk and coverage",
        ylim=(0, None),
    )
    risk.legend(frameon=False)
    risk.grid(alpha=0.3)
    return figure
