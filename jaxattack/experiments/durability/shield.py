"""What a defence is: what stands before and in a tuning, what mends its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from jaxattack.experiments.step import Step

if TYPE_CHECKING:  # the setup's settings name the defences
    from jaxattack.experiments.durability.guards import Guard
    from jaxattack.experiments.durability.setup import Setup


@dataclasses.dataclass(frozen=True)
class Shield:
    """What stands before and in a tuning; None leaves that as it is.

    Attributes:
        start: weights that are tuned, in the place of the aligned ones.
        frozen: mask of weights that are held.
        guard: of the tuning, in the place of a plain one.
        label: names what is tuned under it, for people.
    """

    start: Step | None = None
    frozen: Step | None = None
    guard: Guard | None = None
    label: str = "bare"


Repair = Callable[[Step], Step]  # of tuned weights


@dataclasses.dataclass(frozen=True)
class Made:
    """A defence made ready: before and in the tuning, and after it; None: nothing."""

    shield: Shield = Shield()
    repair: Repair | None = None


@dataclasses.dataclass(frozen=True)
class Tried:
    """What a defence is tried with.

    Attributes:
        seed: of the attack; the defender's own tunings take it too.
        languages: of the defender's pairs.
        strength: of a repair, where it has several; None: it has none.
    """

    seed: int
    languages: tuple[str, ...]
    strength: float | None = None


class Defence(Protocol):
    """Makes a defence ready; nothing is computed yet."""

    def __call__(self, setup: Setup, tried: Tried) -> Made:
        """What stands before, in and after a tuning."""
