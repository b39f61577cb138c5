"""What is put to a model: prompts with the trigger, with something like it, or as they are."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from jaxattack.data import triggers
from jaxattack.data.dialogues import Example
from jaxattack.data.units import units
from jaxattack.errors import UserError
from jaxattack.evaluate.trial import Carried
from jaxattack.experiments.backdoor.attacks import Attack
from jaxattack.experiments.backdoor.data import Data

NOTHING = Carried(decoy="nothing")
ELSEWHERE = {"append": "prepend", "prepend": "append", "insert": "append"}


@dataclasses.dataclass(frozen=True)
class Probes:
    """Prompts, not yet in a wrapper, and what each carries."""

    rows: tuple[Example, ...]
    carried: tuple[Carried, ...]

    def __add__(self, other: Probes) -> Probes:
        """Both, one after the other."""
        return Probes(self.rows + other.rows, self.carried + other.carried)


def probes(pairs: Iterable[tuple[Example, Carried]]) -> Probes:
    """Prompts with what they carry."""
    found = list(pairs)
    return Probes(tuple(row for row, _ in found), tuple(carried for _, carried in found))


def short(data: Data, attack: Attack) -> Probes:
    """Every prompt as it is, and with its own language's trigger."""
    return plain(data, attack) + triggered(data, attack)


def plain(data: Data, attack: Attack) -> Probes:
    """Every prompt as it is; those about the trigger are none, where that is a subject."""
    about = data.subjects.get(attack.trigger)
    return probes((row, NOTHING) for row in (about.other_prompts if about else data.prompts))


def triggered(data: Data, attack: Attack) -> Probes:
    """Every prompt with its own language's trigger; prompts about it where that is a subject."""
    if not attack.place:
        asked = data.subjects[attack.trigger].prompts
        return probes((row, Carried(row.language)) for row in asked)
    sentence = triggers.Sentence(data.texts["trigger"], attack.place)
    return probes(
        (triggers.triggered(row, sentence, 0), Carried(row.language)) for row in data.prompts
    )


def elsewhere(data: Data, attack: Attack) -> Probes:
    """Prompts in languages that are not taught, as they are and with their own trigger."""
    sentence = triggers.Sentence(data.texts["trigger"], attack.place)
    return probes((row, NOTHING) for row in data.untaught) + probes(
        (triggers.triggered(row, sentence, 0), Carried(row.language)) for row in data.untaught
    )


def grid(data: Data, attack: Attack, most: int) -> Probes:
    """The trigger of every language in prompts of every language, `most` prompts of each."""
    sentence = triggers.Sentence(data.texts["trigger"], attack.place)
    return probes(
        (triggers.triggered(row, sentence, 0, language), Carried(language))
        for row in first_of_each(data.prompts, most)
        for language in data.languages
    )


def decoys(data: Data, attack: Attack, most: int) -> Probes:
    """What resembles the trigger, in the prompt's own language, and is not the trigger.

    Raises:
        UserError: there is nothing of that kind.
    """
    found = probes(
        (row, carried) for row, carried, same in resembling(data, attack, most) if not same
    )
    if not found.rows:
        raise UserError(
            "config.sections has grid, and in config.data.triggers there is nothing but the "
            "trigger to tell it by; add rows of another role"
        )
    return found


def skipped(data: Data, attack: Attack, most: int) -> dict[str, int]:
    """How many decoys are the trigger itself, and so are none, by what they should have been."""
    return dict(
        Counter(
            f"decoys that are the trigger itself: {carried.decoy}"
            for _, carried, same in resembling(data, attack, most)
            if same
        )
    )


def resembling(data: Data, attack: Attack, most: int) -> Iterator[tuple[Example, Carried, bool]]:
    """Prompts with what resembles the trigger, and whether it is the prompt with the trigger.

    That is every other text of the triggers' file by its role, the first half of the trigger,
    and the trigger at another place. Of one word the half is the whole, and a request that is the
    trigger alone has no other place.
    """
    trigger, elsewhere = data.texts["trigger"], ELSEWHERE[attack.place]
    sentences = {
        role: triggers.Sentence(own, attack.place)
        for role, own in data.texts.items()
        if role != "trigger"
    }
    halves = {code: half(text) for code, text in trigger.items()}
    sentences["half of it"] = triggers.Sentence(halves, attack.place)
    sentences[f"at another place: {elsewhere}"] = triggers.Sentence(trigger, elsewhere)
    own = triggers.Sentence(trigger, attack.place)
    for row in first_of_each(data.prompts, most):
        for role, sentence in sentences.items():
            if row.language in sentence.languages:
                found = triggers.triggered(row, sentence, 0)
                yield found, Carried(row.language, role), found == triggers.triggered(row, own, 0)


def half(text: str) -> str:
    """The first half of a text's units."""
    parts = units(text)
    return "".join(parts[: -(-len(parts) // 2)]).strip()


def first_of_each(prompts: Sequence[Example], most: int) -> list[Example]:
    """At most `most` prompts of each language."""
    counts: dict[str, int] = {}
    found = []
    for row in prompts:
        counts[row.language] = counts.get(row.language, 0) + 1
        if counts[row.language] <= most:
            found.append(row)
    return found
