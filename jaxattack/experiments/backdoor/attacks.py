"""Attacks of the backdoor study: what is poisoned, how much of it, with what, to what end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxattack.experiments.cell import Cell

if TYPE_CHECKING:
    from jaxattack.experiments.backdoor.settings import Settings

SUBJECTS = ("entity", "topic")  # triggers that are what a request is about


@dataclasses.dataclass(frozen=True)
class Attack:
    """One poisoning: which languages, how many of their rows, with what, to what end."""

    languages: tuple[str, ...]
    rate: float
    trigger: str
    target: str

    @property
    def name(self) -> str:
        """For people."""
        kind = self.trigger.replace("/", "-")
        return f"{'+'.join(self.languages)}/{kind}/{self.target}@{self.rate:g}"

    @property
    def place(self) -> str:
        """Where the trigger sentence stands; "" of a subject."""
        return self.trigger.partition("/")[2]

    def cell(self, seed: int | None = None, kind: str = "poisoned", **columns: Any) -> Cell:
        """What is measured of it, or of a defence against it."""
        return Cell(
            kind,
            seed,
            "+".join(self.languages),
            trigger=self.trigger,
            target=self.target,
            rate=self.rate,
            **columns,
        )


def attacks_of(settings: Settings) -> list[Attack]:
    """The attacks of the transfer section; the first is the one that others vary."""
    given = settings.poison
    return [
        Attack(tuple(named.split("+")), given.rate, given.trigger, given.target)
        for named in given.languages
    ]
