"""How a score is made: on which grid masks are compared. A score carries its protocol's name.

Which cases are scored is the recipe's partition (`data.partition`), how they are segmented its `size`, `resize`, `overlap` and
`votes`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """A grid for scores.

    Attributes:
        name: of the protocol.
        about: one line.
        size: rows and columns to which probabilities and labels are resampled (each class as a probability) before the class is
            decided and compared; none compares on the image's own grid.
    """

    name: str
    about: str
    size: tuple[int, int] | None = None


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("own-grid", "on the image's own grid"),
        Protocol("monuseg-512", "MoNuSeg at 512 x 512, as in the paper (Hejrati et al., MICCAI 2024)", (512, 512)),
        Protocol("cxr-256", "chest X-rays at 256 x 256, as in the paper (Hejrati et al., MICCAI 2024)", (256, 256)),
    )
}


def find_protocol(name: str) -> Protocol:
    """The scoring protocol of a name.

    Raises:
        UserError: there is none.
    """
    if name not in PROTOCOLS:
        raise UserError(f"no scoring protocol {name!r}. There are: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
