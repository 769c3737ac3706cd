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


def label_of_palette(
    indices: np.ndarray, colours: np.ndarray
) -> tuple[np.ndarray, dict[int, int], tuple[str, ...]]:
    """Decide whether the numbers of a picture with a palette are classes, or its colours are.

    Programs that reduce colours put them in any order, which may differ from file to file: then the
    colours count. Palettes that only show what the numbers mean begin with black for the
    background: then the numbers count.

    Args:
        indices: numbers of the pixels, `[H, W]` or more axes.
        colours: red, green and blue of each number, `[N, 3]` uint8.

    Returns:
        The numbers unchanged, or colours `[..., 3]` in their place; the colour of each value that
        the label then has, as 65536 * red + 256 * green + blue; and what could have been read in
        another way.

    Raises:
        IndexError: a pixel has a number that the palette lacks.
    """
    used = np.unique(indices)
    shown = colours[used]
    code = shown.astype(np.int64) @ [65536, 256, 1]
    distinct, counts = np.unique(code, return_counts=True)
    if len(distinct) < len(code):
        same = ", ".join(str(n) for n in used[code == distinct[counts.argmax()]][:5])
        doubt = (
            f"its palette gives the numbers {same} one colour, so its numbers were taken as the "
            "values. If they mean the same, save it without a palette."
        )
        return indices, {}, (doubt,)
    if (colours == colours[:, :1]).all() or (code[used != 0] == 0).any():
        gray = (shown == shown[:, :1]).all()
        values = shown[:, 0] if gray else code
        return colours[indices], dict(zip(values.tolist(), code.tolist(), strict=True)), ()
    doubts: tuple[str, ...] = ()
    if used[0] == 0 and code[0] != 0:
        doubts = (
            f"its palette begins with the colour #{code[0]:06x}, and not with black; pixels of "
            "this colour were taken as background. If they are none, save it without a palette.",
        )
    return indices, dict(zip(used.tolist(), code.tolist(), strict=True)), doubts
