"""What claims and cautions are about: the study's facts, and its attacks."""

from __future__ import annotations

import dataclasses

from jaxattack.experiments.cell import Cell
from jaxattack.experiments.outcomes import ASR, Outcomes
from jaxattack.experiments.term import Term, Where, anywhere, rate

TRAINED_CLEAN = Cell("clean")
FALSE, REFUSED, SAME = "false_trigger_rate", "clean_refusal_rate", "same_language_rate"
UNTAUGHT = "untaught"  # prompts in languages in which no row was taught


@dataclasses.dataclass(frozen=True)
class Study:
    """What the claims are about.

    Attributes:
        seeds: of the trainings.
        languages: measured.
        attacks: of the transfer section; the first is the one that is defended against.
        rewound: share of the weights that R1's repair rewinds.
        parallel: whether prompts of one id are one in all languages.
        untaught: languages measured in which no row was taught.
        untaught_parallel: likewise of the prompts in these.
    """

    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    attacks: tuple[Cell, ...]
    rewound: float
    parallel: bool
    untaught: tuple[str, ...] = ()
    untaught_parallel: bool = False

    @property
    def first(self) -> Cell:
        """The attack that is defended against."""
        return self.attacks[0]


def attacked(study: Study, seen: Outcomes) -> list[Cell]:
    """The attacks that were measured, those with other triggers and targets among them."""
    first = study.first
    kinds = [
        cell
        for cell in seen.cells
        if cell == dataclasses.replace(first, trigger=cell.trigger, target=cell.target)
    ]
    return [cell for cell in dict.fromkeys((*study.attacks, *kinds)) if seen.has(cell)]


def poisoned(cell: Cell) -> tuple[str, ...]:
    """The languages poisoned."""
    return tuple((cell.attacked or "").split("+"))


def hits(cell: Cell, where: Where = anywhere) -> Term:
    """Attack success rate."""
    return rate(cell, where, ASR)
