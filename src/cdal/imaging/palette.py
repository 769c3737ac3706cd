"""Colours for classes: black for the background, then distinct hues."""

from __future__ import annotations

import colorsys

import numpy as np

# The first colours are Okabe and Ito's, which people with colour blindness can distinguish.
_FIRST = [
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
]


def _colours() -> np.ndarray:
    golden = 0.618034
    more = [
        colorsys.hsv_to_rgb((i * golden) % 1, 0.55 + 0.4 * (i % 2), 0.95 - 0.25 * (i % 3 == 2))
        for i in range(248)
    ]
    return np.array(
        [(0, 0, 0), *_FIRST, *[tuple(round(255 * c) for c in colour) for colour in more]], np.uint8
    )


PALETTE = _colours()
"""Red, green and blue of each class, `[256, 3]`."""
