"""What a defence is, and how its cells are called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from jaxattack.experiments.backdoor.setup import Defence, Setup
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.step import Step

Found = Iterator[tuple[Cell, Defence]]


class Defend(Protocol):
    """Each setting that a defence is tried with against the suspect, with its cell."""

    def __call__(self, setup: Setup, suspect: Step, seed: int) -> Found:
        """The settings; nothing is computed yet."""


def cell_of(
    setup: Setup, seed: int, method: str, setting: str, words: str, share: float | None = None
) -> Cell:
    """A defence's cell: that of the attack, and what is done against it.

    Args:
        setup: what the study shares.
        seed: of the attack.
        method: the defence.
        setting: with which it is tried, as an id.
        words: the same for a reader.
        share: of the weights or units that it takes, where there is one.
    """
    return setup.first.cell(
        seed, "defended", method=method, setting=setting, words=words, share=share
    )


def is_first(setup: Setup, seed: int) -> bool:
    """Whether it is the seed with which every setting is tried."""
    return seed == setup.settings.seeds[0]


def percent(share: float) -> str:
    """A share as readers see it."""
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"
