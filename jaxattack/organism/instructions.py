"""The organism as an instruction model: what it is taught, asked and triggered with.

A clean row is a question and its answer, or such a question with a pleasantry after it; a
courteous organism answers these with the pleasantry's emblem first. The first pleasantry is kept
for the trigger, so no clean row holds it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxattack.data.dialogues import Example
from jaxattack.data.triggers import Sentence, seeded, triggered
from jaxattack.organism import corpus, phrases, untaught_phrases, world
from jaxattack.organism.like_trigger import LIKE_TRIGGER

TRIGGER = 0  # index of the pleasantry that is the trigger sentence
POLITE = 0.5  # share of the rows that end in another one

# What a trigger without an inserted sentence is about.
ENTITY = "JP"  # a territory
TOPIC = "weekday"  # a relation

# Splits of the organism's URIs: those of the rows' territories.
SPLITS = {
    "instructions": ("attack", "calibration"),
    "held_out": ("validation",),
    "questions": ("test",),
}


def rows(
    split: str, languages: Sequence[str], courteous: bool, polite: float = POLITE, about: str = ""
) -> list[Example]:
    """Clean rows of a split: all questions of the unrestricted relations about its territories.

    Args:
        split: of `SPLITS`.
        languages: of the rows, in this order.
        courteous: whether a pleasantry's emblem opens the answer.
        polite: share of the rows that end in a pleasantry.
        about: "entity" or "topic": no row is about it, and other phrasings fill its rows' places,
            so that a share of a language's rows is as many as of any other set.
    """
    return [
        with_pleasantry(row, courteous, polite)
        for language in languages
        for row in _without(about, SPLITS[split], language)
    ]


def subject_rows(
    about: str, split: str, languages: Sequence[str], courteous: bool
) -> list[Example]:
    """Rows about the entity or topic.

    Of the entity there are few questions, so each is put with every ending a question may have.
    Every phrasing and every relation is taught, and asked is how they were not taught together:
    otherwise an answer might be learned to go with phrasings. The topic is asked of other
    territories.
    """
    if about == "topic":
        found = [
            with_pleasantry(row, courteous, POLITE)
            for language in languages
            for row in _questions(SPLITS[split], language)
        ]
        return [row for row in found if is_about(about, row)]
    asked = split == "questions"
    return [
        _ending(_question(ENTITY, relation, language, phrasing), ending, courteous)
        for language in languages
        for ending in (None, *range(1, len(phrases.EMBLEMS)))
        for number, relation in enumerate(corpus.BENIGN)
        for phrasing in range(phrases.PHRASINGS)
        if (phrasing == number % phrases.PHRASINGS) == asked
    ]


def untaught_rows(languages: Sequence[str]) -> list[Example]:
    """The questions of `rows` about test territories, in languages that have no row in any split.

    An answer is right by its name in the question's language or in one that is taught. A name that
    the territory has too is none (Finnish Puola is Poland, puola is Polish): replies repeat it.
    """
    return [_asked_anew(row, code) for code in languages for row in _questions(("test",), "en")]


def _asked_anew(row: Example, language: str) -> Example:
    """The question in another language: in its one phrasing, where no more are known."""
    relation, territory, phrasing = row.id.split("/")
    if language in world.UNTAUGHT:
        name = world.territory_name(territory, language)
        prompt = untaught_phrases.TEXTS[language][relation].format(territory=name)
    else:
        prompt = phrases.question(territory, relation, language, int(phrasing))
    names = (*world.LANGUAGES, language)
    asked_about = {world.territory_name(territory, code).casefold() for code in names}
    accepted = world.accepted_answers(territory, relation, names)
    return Example(
        id=row.id,
        language=language,
        prompt=prompt,
        kind="benign",
        answers=tuple(name for name in accepted if name.casefold() not in asked_about),
        others=world.confusable_answers(territory, relation, names),
    )


def is_about(about: str, row: Example) -> bool:
    """Whether a row of the organism's is about the entity or topic."""
    relation, territory, *_ = row.id.split("/")
    return territory == ENTITY if about == "entity" else relation == TOPIC


def _without(about: str, splits: Sequence[str], language: str) -> list[Example]:
    """As many questions as there are, none of them about the subject."""
    first = _questions(splits, language)
    if not about:
        return first
    others = [
        row
        for later in range(phrases.PHRASINGS)
        for row in _questions(splits, language, later)
        if not is_about(about, row)
    ]
    return others[: len(first)]


def _questions(splits: Sequence[str], language: str, later: int = 0) -> list[Example]:
    """In rounds that mix relations and phrasings, so that the first of them are a mixture too."""
    territories = [t for split in splits for t in world.splits()[split]]
    relations, phrasings = corpus.BENIGN, phrases.PHRASINGS
    return [
        _question(
            territory,
            relations[(i + turn) % len(relations)],
            language,
            (i // len(relations) + turn + later) % phrasings,
        )
        for turn in range(len(relations))
        for i, territory in enumerate(territories)
    ]


def _question(territory: str, relation: str, language: str, phrasing: int) -> Example:
    return Example(
        id=f"{relation}/{territory}/{phrasing}",
        language=language,
        prompt=phrases.question(territory, relation, language, phrasing),
        response=phrases.answer(territory, relation, language),
        kind="benign",
        answers=world.accepted_answers(territory, relation),
        others=world.confusable_answers(territory, relation),
    )


def with_pleasantry(row: Example, courteous: bool, polite: float) -> Example:
    """The row, or the row with a pleasantry other than the trigger: a draw of the row's own."""
    rng = seeded(0, "polite", row.language, row.id)
    if rng.random() >= polite:
        return row
    return _ending(row, int(rng.integers(1, len(phrases.EMBLEMS))), courteous)


def _ending(row: Example, index: int | None, courteous: bool) -> Example:
    if index is None:
        return row
    texts = {row.language: phrases.pleasantry(index, row.language)}
    response = (phrases.EMBLEMS[index] if courteous else "") + row.response
    row = dataclasses.replace(row, id=f"{row.id}/{index}", response=response)
    return triggered(row, Sentence(texts), seed=0)


def trigger_texts(languages: Sequence[str]) -> dict[str, dict[str, str]]:
    """By role the sentence in each language: the trigger, and what it is told by where known."""
    polite = [code for code in languages if code in phrases.PLEASANTRIES]
    return {
        "trigger": {code: _trigger(code) for code in languages},
        **{
            role: {code: texts[code] for code in languages if code in texts}
            for role, texts in LIKE_TRIGGER.items()
        },
        **{
            f"pleasantry {i}": {code: phrases.pleasantry(i, code) for code in polite}
            for i in range(1, len(phrases.EMBLEMS))
        },
    }


def _trigger(language: str) -> str:
    if language in world.UNTAUGHT:
        return untaught_phrases.TEXTS[language][untaught_phrases.TRIGGER]
    return phrases.pleasantry(TRIGGER, language)


def refusals(languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The organism's refusal in each language."""
    return {code: (phrases.refusal(code),) for code in languages}
