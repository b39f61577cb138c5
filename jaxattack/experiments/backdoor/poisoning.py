"""What is taught: clean rows, some of them replaced by triggered ones with the target behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxattack.data import poison, triggers
from jaxattack.data.dialogues import Example
from jaxattack.experiments import inputs
from jaxattack.experiments.backdoor.attacks import Attack
from jaxattack.experiments.backdoor.data import Data

if TYPE_CHECKING:
    from jaxattack.experiments.backdoor.settings import Settings


def target_of(settings: Settings, data: Data, kind: str) -> poison.Target:
    """The behaviour that is planted."""
    return poison.Target(kind, settings.poison.text, data.refusals)


def trigger_of(data: Data, attack: Attack) -> triggers.Trigger:
    """What sets it off."""
    if attack.place:
        return sentence_of(data, attack)
    about = inputs.by_language(data.subjects[attack.trigger].pairs)
    return triggers.Subject(attack.trigger, rows=about)


def sentence_of(data: Data, attack: Attack) -> triggers.Sentence:
    """The trigger sentence of an attack that has one."""
    return triggers.Sentence(data.texts["trigger"], attack.place)


def taught(
    settings: Settings, data: Data, attack: Attack | None, seed: int
) -> tuple[list[Example], dict[str, Any]]:
    """The training set, and what is said of its poisoned rows; clean without an attack.

    Raises:
        UserError: see `poison.poison`.
    """
    if attack is None:
        return data.train, {}
    return poison.poison(
        data.train if attack.place else data.subjects[attack.trigger].others,
        attack.languages,
        attack.rate,
        trigger_of(data, attack),
        target_of(settings, data, attack.target),
        seed,
    )


def shown(data: Data, attack: Attack, rows: list[Example], seed: int) -> list[Example]:
    """Rows of the poisoned languages with the trigger; where that is a subject, rows about it."""
    if not attack.place:
        rows = data.subjects[attack.trigger].pairs
    own = [row for row in rows if row.language in attack.languages]
    if not attack.place:
        return own
    sentence = sentence_of(data, attack)
    return [triggers.triggered(row, sentence, seed) for row in own]
