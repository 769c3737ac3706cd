"""Several engines that vote together, behind the interface of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cdal.inference.engine import Engine
from cdal.runtime.errors import UserError


class EnsembleEngine:
    """Several engines whose votes are put together, behind `cdal.inference.engine.Engine`.

    The votes are shared out among the members, and all votes count the same. The ensemble therefore
    is the mixture of what its members say: mean, spread and the set of the votes are those of the
    mixture. A member that draws no random numbers says one thing; it repeats its votes until it has
    its share.

    Member number m, counted from 0, draws with the seed plus m. Its votes are those that it gives
    alone with its share of the votes and this seed. (With the same seed for all, members of similar
    weights would err together.)

    Args:
        members: engine of each member.
    """

    def __init__(self, members: Sequence[Engine]) -> None:
        self.members = tuple(members)
        self.stochastic = any(member.stochastic for member in self.members)
        self.parameters = sum(member.parameters for member in self.members)
        self.at_once = min(member.at_once for member in self.members)
        self.draws_apart = all(member.draws_apart for member in self.members)

    def about(self) -> dict[str, Any]:
        """See `Engine.about`. Where members differ, all their values are named."""
        told = [member.about() for member in self.members]
        values = {name: list(dict.fromkeys(one[name] for one in told)) for name in told[0]}
        return {
            name: found[0] if len(found) == 1 else ", ".join(map(str, found))
            for name, found in values.items()
        }

    def generator(self, seed: int, /, *keys: int | str) -> tuple[Any, ...]:
        """A generator for each member, see the class."""
        return tuple(member.generator(seed + m, *keys) for m, member in enumerate(self.members))

    def draw(self, size: Sequence[int], images: int, votes: int, rng: tuple[Any, ...]) -> list[Any]:
        """See `Engine.draw`; the numbers of an image are those of each member."""
        by_member = [
            member.draw(size, images, share, own)
            for member, share, own in zip(self.members, self.shares(votes), rng, strict=True)
        ]
        return list(zip(*by_member, strict=True))

    def sample(
        self,
        image: np.ndarray,
        votes: int,
        rng: tuple[Any, ...],
        draws: Sequence[Any] | None = None,
    ) -> np.ndarray:
        """See `Engine.sample`."""
        of_member = [None] * len(self.members) if draws is None else zip(*draws, strict=True)
        return self.together(
            lambda member, share, own: member.sample(image, share, *own),
            votes,
            tuple(zip(rng, of_member, strict=True)),
        )

    def shares(self, votes: int) -> list[int]:
        """Number of votes of each member: as equal as possible, the first ones have one more.

        Raises:
            UserError: there are fewer votes than members.
        """
        count = len(self.members)
        if votes < count:
            raise UserError(
                f"votes must be {count} or more, because each of the {count} models of the "
                f"ensemble votes; it is {votes}."
            )
        return [len(range(m, votes, count)) for m in range(count)]

    def together(
        self,
        draw: Callable[[Engine, int, Any], np.ndarray],
        votes: int,
        rng: tuple[Any, ...],
    ) -> np.ndarray:
        """The votes of all members, those of the first one first.

        Args:
            draw: draws the votes of a member with a share and a generator, `[share, B, K, *S]`. A
                member without random numbers may give fewer.
            votes: number of votes V.
            rng: what `generator` gave.

        Returns:
            Probabilities `[V, B, K, *S]`.
        """
        drawn: np.ndarray | None = None
        first = 0
        for member, share, own in zip(self.members, self.shares(votes), rng, strict=True):
            found = draw(member, share, own)
            if drawn is None:
                drawn = np.empty((votes, *found.shape[1:]), np.float32)
            if found.shape[1:] != drawn.shape[1:]:
                raise UserError(
                    f"the models of the ensemble give votes of the shapes {drawn.shape[1:]} and "
                    f"{found.shape[1:]}. Are their files those that they were exported to?"
                )
            for vote in range(share):
                drawn[first + vote] = found[vote % len(found)]
            first += share
        assert drawn is not None  # an ensemble has members
        return drawn
