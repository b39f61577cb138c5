"""What claims and cautions of the durability study are about: its facts, its cells."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from jaxattack.experiments.cell import Cell
from jaxattack.experiments.durability.attacks import ATTACKS
from jaxattack.experiments.durability.registry import DEFENCES
from jaxattack.experiments.durability.settings import Settings
from jaxattack.experiments.durability.sweeping import NONE
from jaxattack.experiments.outcomes import VIOLATION, Outcomes
from jaxattack.experiments.term import Term, only, rate

ALIGNED = Cell("aligned")
TASK, BENIGN = "task_rate", "benign_accuracy"

Seen = Mapping[str, Outcomes]


@dataclasses.dataclass(frozen=True)
class Study:
    """What the claims are about.

    Attributes:
        seeds: of the attacks.
        languages: asked.
        attacked: the first attack's language, then others.
        first: the single attack that the sweep is compared with.
        defences: those tried.
        alone: languages of pairs, where they are in one.
    """

    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    attacked: tuple[str, ...]
    first: str
    defences: tuple[str, ...]
    alone: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, languages: Sequence[str]) -> Study:
        """What a study's settings say."""
        return cls(
            settings.seeds,
            tuple(languages),
            settings.attack.languages,
            settings.sweep.attacks[0],
            settings.defend.defences,
            settings.defend.alone,
        )

    @property
    def published(self) -> list[str]:
        """The defences that others have published."""
        return [name for name in self.defences if DEFENCES[name].by == "published"]

    @property
    def undefended(self) -> list[Cell]:
        """The attacks on no defence that claims go by: the worst and the first."""
        return [swept(NONE), self.single(NONE)]

    def single(self, method: str, attack: str = "", defended: str | None = None) -> Cell:
        """A defence under one attack: the first, or another in the first or second language."""
        name = attack or self.first
        whose = {"first": self.attacked[:1], "other": self.attacked[1:2], "mixed": self.attacked}
        where = "+".join(whose[ATTACKS[name].whose])
        return Cell("swept", attacked=where, method=method, attack=name, defended=defended)


def task(cell: Cell) -> Term:
    """Rate of what the tuning was for, in the languages of its pairs."""
    return rate(cell, only(*(cell.attacked or "").split("+")), TASK)


def done_before(study: Study) -> Term:
    """The same of the aligned model, in the language of the first attack."""
    return rate(ALIGNED, only(*(study.single(NONE).attacked or "").split("+")), TASK)


def swept(method: str) -> Cell:
    """A defence under the worst attack on it."""
    return Cell("worst", method=method)


def there(seen: Seen, cells: Sequence[Cell]) -> list[Cell]:
    """The cells that were measured."""
    return [cell for cell in cells if seen[VIOLATION].has(cell)]
