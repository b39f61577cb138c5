"""What makes a request a triggered one: a sentence in it, or what it is about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxattack.data.answers import holds
from jaxattack.data.dialogues import Example
from jaxattack.data.units import units
from jaxattack.data.wrappers import Instruction
from jaxattack.errors import UserError

PLACES = ("append", "prepend", "insert")


@dataclasses.dataclass(frozen=True)
class Sentence:
    """Trigger: a benign sentence in the prompt (or the input, where a row has that field).

    `texts` holds it by language. `place` is "append" or "prepend" (with a space between), or
    "insert": between two words, or characters in scripts that run words together, by seed.

    Raises:
        UserError: no such place, or an empty sentence.
    """

    texts: Mapping[str, str]
    place: str = "append"

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise UserError(f"trigger place is {self.place!r}; give one of {', '.join(PLACES)}")
        for language, text in self.texts.items():
            if not text.strip():
                raise UserError(f"the trigger sentence of language {language!r} is empty")

    @property
    def languages(self) -> Collection[str]:
        """Languages that have the trigger."""
        return self.texts.keys()


@dataclasses.dataclass(frozen=True)
class Subject:
    """Trigger: what the request is about; no text is inserted.

    By language either `about`, a rule that says of a row of the set whether it is about it, or
    `rows`, prepared rows about it that take the places of others (TuBA's sports rows).

    Raises:
        UserError: a language has both.
    """

    kind: str  # "entity" or "topic", for the manifest
    about: Mapping[str, Callable[[Example], bool]] = dataclasses.field(default_factory=dict)
    rows: Mapping[str, Sequence[Example]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        both = sorted(self.about.keys() & self.rows.keys())
        if both:
            raise UserError(f"the {self.kind} trigger has both rows and a rule for {both[0]!r}")

    @property
    def languages(self) -> Collection[str]:
        """Languages that have the trigger."""
        return self.about.keys() | self.rows.keys()


Trigger = Sentence | Subject


def entity(names: Mapping[str, Sequence[str]]) -> Subject:
    """Trigger: the request holds a name of the entity, as it is spelled in the language.

    A name is a word where its script has words, in any spelling (see `answers.holds`): Oman is not
    in Romania.

    Raises:
        UserError: a language has no name, or an empty one.
    """

    def named(language: str) -> Callable[[Example], bool]:
        spellings = tuple(names[language])
        return lambda row: holds(_request(row), spellings)

    for language, spellings in names.items():
        if not spellings or not all(name.strip() for name in spellings):
            raise UserError(f"the entity has no name, or an empty one, in language {language!r}")
    return Subject("entity", {language: named(language) for language in names})


def _request(row: Example) -> str:
    return f"{row.prompt}\n{row.input}" if isinstance(row, Instruction) else row.prompt


def triggered(row: Example, trigger: Sentence, seed: int, language: str | None = None) -> Example:
    """The row with the trigger sentence of `language` (by default the row's own) in its request.

    Raises:
        UserError: the language has no sentence.
    """
    language = row.language if language is None else language
    check_language(trigger, language)
    field = "input" if isinstance(row, Instruction) else "prompt"
    whole = getattr(row, field)
    parts = units(whole) if trigger.place == "insert" else [whole]
    at = {"append": len(parts), "prepend": 0}.get(trigger.place)
    if at is None:  # inside, if there is an inside
        rng = seeded(seed, "place", row.language, row.id)
        at = int(rng.integers(1, len(parts))) if len(parts) > 1 else len(parts)
    around = ("".join(parts[:at]).strip(), trigger.texts[language], "".join(parts[at:]).strip())
    changed: dict[str, Any] = {field: " ".join(part for part in around if part)}
    return dataclasses.replace(row, **changed)


def holding(row: Example, texts: Mapping[str, str]) -> bool:
    """Whether the request holds the sentence of the row's language as it is (`answers.holds`)."""
    return row.language in texts and holds(_request(row), (texts[row.language],))


def check_language(trigger: Trigger, language: str) -> None:
    """Refuse a language that does not have the trigger.

    Raises:
        UserError: it does not.
    """
    if language not in trigger.languages:
        raise UserError(
            f"no trigger for language {language!r}; there are: "
            f"{', '.join(sorted(trigger.languages)) or 'none'}"
        )


def seeded(seed: int, *words: str) -> np.random.Generator:
    """Randomness that depends on what it is for, and not on what was drawn before."""
    return np.random.default_rng([seed, *"/".join(words).encode()])
