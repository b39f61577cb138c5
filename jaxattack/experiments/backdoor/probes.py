"""What is put to a model: prompts with the trigger, with something like it, or as they are."""

from __future__ import annotations

from collections.abc import Sequence

from jaxattack.data import triggers
from jaxattack.data.dialogues import Example
from jaxattack.data.units import units
from jaxattack.evaluate.backdoor import Probe
from jaxattack.experiments.backdoor.data import SUBJECTS, Attack, Data, sentence_of

Probed = tuple[Example, Probe]

NOTHING = Probe(decoy="nothing")
POSITIONS = {"append": "prepend", "prepend": "append", "insert": "append"}


def short(data: Data, attack: Attack) -> list[Probed]:
    """Every prompt as it is, and with its own language's trigger."""
    return plain(data, attack) + triggered(data, attack)


def plain(data: Data, attack: Attack) -> list[Probed]:
    """Every prompt as it is; those about the trigger are none, where that is a subject."""
    about = data.subjects.get(attack.trigger)
    return [(row, NOTHING) for row in (about.other_prompts if about else data.prompts)]


def triggered(data: Data, attack: Attack) -> list[Probed]:
    """Every prompt with its own language's trigger; prompts about it where that is a subject."""
    if attack.trigger in SUBJECTS:
        asked = data.subjects[attack.trigger].prompts
        return [(row, Probe(row.language)) for row in asked]
    sentence = sentence_of(data, attack.trigger)
    return [(triggers.triggered(row, sentence, 0), Probe(row.language)) for row in data.prompts]


def grid(data: Data, attack: Attack, most: int) -> list[Probed]:
    """The trigger of every language in prompts of every language, `most` prompts of each."""
    sentence = sentence_of(data, attack.trigger)
    return [
        (triggers.triggered(row, sentence, 0, language), Probe(language))
        for row in first_of_each(data.prompts, most)
        for language in data.languages
    ]


def decoys(data: Data, attack: Attack, most: int) -> list[Probed]:
    """What resembles the trigger, in the prompt's own language.

    That is every other text of the triggers' file by its role, the first half of the trigger,
    and the trigger at another place.
    """
    found: list[Probed] = []
    place = attack.trigger.partition("/")[2]
    texts = {role: own for role, own in data.texts.items() if role != "trigger"}
    texts["half of it"] = {code: half(text) for code, text in data.texts["trigger"].items()}
    for row in first_of_each(data.prompts, most):
        for role, own in texts.items():
            if row.language in own:
                probe = Probe(row.language, role)
                sentence = triggers.Sentence(own, place)
                found.append((triggers.triggered(row, sentence, 0), probe))
        moved = triggers.Sentence(data.texts["trigger"], POSITIONS[place])
        probe = Probe(row.language, f"at another place: {moved.place}")
        found.append((triggers.triggered(row, moved, 0), probe))
    return found


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
