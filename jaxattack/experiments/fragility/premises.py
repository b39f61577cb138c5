"""What claims and cautions are about: the study's facts, its cells, what they add."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from jaxattack.experiments.cell import Cell
from jaxattack.experiments.needs import percent
from jaxattack.experiments.outcomes import VIOLATION, Outcomes
from jaxattack.experiments.term import Term, Where, added, anywhere, rate, total
from jaxattack.experiments.thresholds import UNSAFE

ALIGNED = Cell("aligned")

Places = Callable[[str], Where]  # by the language that was attacked


@dataclasses.dataclass(frozen=True)
class Study:
    """What the claims are about.

    Attributes:
        seeds: of the trainings.
        languages: of the model, those added by adaptation left out.
        attacked: languages attacked, each by itself.
        localized: those of them whose masks were moved.
        share: of the weights, in those masks.
    """

    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    attacked: tuple[str, ...]
    localized: tuple[str, ...]
    share: float

    def masked(self, kind: str, method: str = "sil", share: float | None = None) -> dict[str, Cell]:
        """Cells of a kind by the languages whose masks were moved."""
        of = self.share if share is None else share
        return {code: Cell(kind, attacked=code, method=method, share=of) for code in self.localized}


def adapted(seen: Outcomes) -> list[Cell]:
    """The adapted models, before anything is added to them."""
    return [cell for cell in seen.cells if cell.kind == "adapted"]


def unsafe(seen: Outcomes, where: Where) -> list[str]:
    """Which adapted models leave little to add, in words: they do not decline to begin with."""
    rates = {base: rate(base, where).figure({VIOLATION: seen}).value for base in adapted(seen)}
    return [
        f"{base.model} answers {percent(value)} of the restricted prompts in the new languages "
        f"with nothing added, which leaves little to add (it needs less than {percent(UNSAFE)})"
        for base, value in rates.items()
        if value is not None and value >= UNSAFE
    ]


def attacked(languages: Sequence[str]) -> dict[str, Cell]:
    """The attack in each language."""
    return {code: Cell("attacked", attacked=code) for code in languages}


def carried(cells: Mapping[str, Cell]) -> Term:
    """Violations that cells add in all languages, summed."""
    return summed(cells, everywhere)


def everywhere(code: str) -> Where:
    """All languages, whichever was attacked."""
    return anywhere


def summed(cells: Mapping[str, Cell], where: Places) -> Term:
    """Violations that cells add, each in the languages that `where` gives for its own."""
    return total(added(cell, ALIGNED, where(code)) for code, cell in cells.items())
