"""Scoring protocols: the grid on which masks are compared.

Every score is reported with its protocol's name. The recipe's partition (`data.partition`) decides
which cases are scored. Its `size`, `resize`, `overlap` and `votes` decide how they are segmented.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdal.runtime.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """The grid on which scores are computed.

    Attributes:
        name: name of the protocol.
        about: description in one line.
        size: rows and columns to which probabilities and labels are resampled, each class as a
            probability, before the class is decided and compared. `None`: the image's own grid.
    """

    name: str
    about: str
    size: tuple[int, int] | None = None


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("own-grid", "on the image's own grid"),
        Protocol(
            "monuseg-512",
            "MoNuSeg at 512 x 512, as in the paper (Hejrati et al., MICCAI 2024)",
            (512, 512),
        ),
        Protocol(
            "cxr-256",
            "chest X-rays at 256 x 256, as in the paper (Hejrati et al., MICCAI 2024)",
            (256, 256),
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The scoring protocol with that name.

    Raises:
        UserError: no such protocol exists; the message lists all.
    """
    if name not in PROTOCOLS:
        raise UserError(f"no scoring protocol {name!r}. The protocols are: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
