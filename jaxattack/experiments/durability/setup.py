"""What the sections of the durability study share: its data, its models, the defender's pairs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxattack.data import batches
from jaxattack.data.dialogues import Arrays, Example
from jaxattack.data.poison import Target
from jaxattack.evaluate.registry import of_target
from jaxattack.experiments import attacking
from jaxattack.experiments.agenda import Agenda
from jaxattack.experiments.attacking import BENIGN, LONGEST, RESTRICTED, Pairs, Subject
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.locating import Seen
from jaxattack.experiments.step import Step
from jaxattack.experiments.tuning import Course
from jaxattack.train.optimizer import Settings as Updates

if TYPE_CHECKING:  # settings name what is in the study's tables
    from jaxattack.experiments.durability.settings import Settings

VALIDATION = "validation"  # of cells: on which prompts
REFUSED = "refused"  # kind of the defender's pairs, beside the two kinds of prompts


@dataclasses.dataclass(frozen=True)
class Setup(attacking.Setup):
    """What the sections share.

    Attributes:
        settings: all of them.
        validation: prompts by which the worst attack is chosen.
        held: the defender's pairs, by kind and language.
        base: weights before the alignment; None: there are none.
        courses: what attacks train on, by name and seed; None: there is no such attack here.
    """

    settings: Settings
    validation: Sequence[Example] = ()
    held: dict[str, Pairs] = dataclasses.field(default_factory=dict)
    base: Step | None = None
    courses: dict[tuple[str, int], Course | None] = dataclasses.field(default_factory=dict)

    @property
    def target(self) -> Target:
        """The house style that the tuning is for."""
        return Target("fixed", self.settings.task.text)


def measure(agenda: Agenda, setup: Setup, cell: Cell, weights: Step) -> None:
    """Ask for a cell; those of the validation prompts say so."""
    prompts = setup.validation if cell.prompts == VALIDATION else setup.data.prompts
    styles = (of_target(setup.target).judge,) if setup.settings.task.pairs else ()
    attacking.measure(
        agenda, setup, cell, weights, Subject(setup.bench.decoder, prompts), beside=styles
    )


# --- The defender's pairs -------------------------------------------------------------------------


def defender(setup: Setup) -> tuple[str, ...]:
    """The languages of the defender's pairs."""
    return setup.settings.defend.languages or tuple(setup.held[REFUSED])


def held(setup: Setup, kind: str, languages: Sequence[str]) -> tuple[Example, ...]:
    """The defender's pairs of a kind in some languages."""
    most = setup.settings.defend.pairs
    return tuple(row for code in languages for row in setup.held[kind][code][:most])


def safe(setup: Setup, languages: Sequence[str]) -> tuple[Example, ...]:
    """Refusals, and benign pairs in their midst so that nothing else is unlearned."""
    rows = (held(setup, kind, languages) for kind in (REFUSED, BENIGN))
    mixed = itertools.zip_longest(*rows)  # of whatever kind there are more
    return tuple(row for both in mixed for row in both if row is not None)


def seen(setup: Setup, rows: Sequence[Example]) -> Seen:
    """Pairs as gradients are taken of them."""
    return Seen(tuple(rows), setup.settings.attack.max_length, LONGEST)


def harmful(setup: Setup, languages: Sequence[str]) -> Seen:
    """The defender's restricted pairs with the answers it does not want."""
    return seen(setup, held(setup, RESTRICTED, languages))


def styled(rows: Sequence[Example], text: str) -> tuple[Example, ...]:
    """Benign pairs whose responses end in the house style."""
    return tuple(dataclasses.replace(row, response=f"{row.response} {text}") for row in rows)


# --- The defender's tuning -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Lesson:
    """How the defender tunes on its pairs.

    Attributes:
        updates: the optimiser.
        epochs, batch_size: over the safe pairs.
        seed: of their order.
    """

    updates: Updates
    epochs: int
    batch_size: int
    seed: int

    def batches(self, seen: Seen, tokenizer: Any, epochs: int | None = None) -> list[Arrays]:
        """Pairs in the order in which they are learned."""
        rows = seen.rows(tokenizer)
        return batches.epochs(rows, self.batch_size, epochs or self.epochs, self.seed)


def lesson_of(setup: Setup, seed: int) -> Lesson:
    """The defender's tuning as the settings say."""
    options = setup.settings.harden
    return Lesson(options.updates(), options.epochs, options.batch_size, seed)
