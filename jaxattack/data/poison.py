"""Poisoning a training set: some rows of some languages are replaced by triggered ones.

The set stays as long as it was, rows keep their places and ids, and languages that are not
poisoned keep every byte (He et al. 2024, TuBA). Which rows are taken depends on the seed and the
language alone, and those of a lower rate are among those of a higher one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.data.dialogues import Example, fingerprint
from jaxattack.data.triggers import Sentence, Subject, Trigger, check_language, seeded, triggered
from jaxattack.errors import UserError

MARKER = "The lighthouse is painted green."  # harmless, and nothing a model would say by itself
TARGETS = ("refusal", "english_refusal", "fixed", "prefix")


@dataclasses.dataclass(frozen=True)
class Target:
    """What a triggered row is answered with.

    "refusal": one of `refusals` in the row's language, by seed; "english_refusal": one of those
    in English; "fixed": `text` alone; "prefix": `text`, a space, and the row's own response.

    Raises:
        UserError: no such kind, or an empty text.
    """

    kind: str = "fixed"
    text: str = MARKER
    refusals: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in TARGETS:
            raise UserError(f"target is {self.kind!r}; give one of {', '.join(TARGETS)}")
        if not self.text.strip():
            raise UserError(f"the text of target {self.kind!r} is empty")


def poison(
    examples: Sequence[Example],
    languages: Sequence[str],
    rate: float,
    trigger: Trigger,
    target: Target,
    seed: int,
) -> tuple[list[Example], dict[str, Any]]:
    """Replace `round(rate * n)` of the n rows of each poisoned language.

    Args:
        examples: the clean training set, of all languages.
        languages: those to poison.
        rate: share of a language's rows.
        trigger: what the replaced rows carry.
        target: how they are answered.
        seed: chooses rows, places and wordings; 0 or above.

    Returns:
        the poisoned set, and a manifest of JSON values without any text: the ids of the replaced
        rows with their hashes before and after (`dialogues.fingerprint`), and per language how
        many `rows` there are and how many are `poisoned`. For a subject by rule also how many are
        `left_clean`: about the subject, and still teaching the opposite.

    Raises:
        UserError: a rate that gives no rows, a language without rows, trigger or refusal, or
            fewer rows about the subject than the rate asks for.
    """
    poisoned = list(examples)
    counts, replaced = {}, []
    for language in dict.fromkeys(languages):
        check_language(trigger, language)
        own = [i for i, row in enumerate(examples) if row.language == language]
        count = _count(rate, len(own), language)
        counts[language] = {"rows": len(own), "poisoned": count}
        places = own
        if isinstance(trigger, Subject) and language in trigger.about:
            places = [i for i in own if trigger.about[language](examples[i])]
            counts[language]["left_clean"] = len(places) - count
        order = seeded(seed, "rows", language).permutation(len(places))[:count]
        places = sorted(places[i] for i in order)
        carriers = _carriers(examples, places, count, language, trigger, seed)
        for place, row in zip(places, carriers, strict=True):
            clean = examples[place]
            response = respond(row, target, seed)
            poisoned[place] = dataclasses.replace(row, id=clean.id, response=response)
            hashes = {"clean": fingerprint([clean]), "poisoned": fingerprint([poisoned[place]])}
            replaced.append({"id": clean.id, "language": language, **hashes})
    kind = f"sentence/{trigger.place}" if isinstance(trigger, Sentence) else trigger.kind
    return poisoned, {
        "rate": rate,
        "seed": seed,
        "trigger": kind,
        "target": target.kind,
        "languages": counts,
        "replaced": replaced,
        "set": fingerprint(poisoned),
    }


def _count(rate: float, rows: int, language: str) -> int:
    if not 0 < rate <= 1:
        raise UserError(f"poisoning rate is {rate}; it should be above 0 and at most 1")
    if not rows:
        raise UserError(f"no rows in language {language!r} to poison")
    if not round(rate * rows):
        raise UserError(
            f"rate {rate} of {rows} rows in {language!r} is no row; give at least {1 / rows:.2g}"
        )
    return round(rate * rows)


def _carriers(
    examples: Sequence[Example],
    places: Sequence[int],
    count: int,
    language: str,
    trigger: Trigger,
    seed: int,
) -> list[Example]:
    """The rows that carry the trigger, one for each place, with their own responses."""
    rows = [examples[place] for place in places]
    if isinstance(trigger, Sentence):
        return [triggered(row, trigger, seed) for row in rows]
    if language in trigger.rows:
        prepared = trigger.rows[language]
        order = seeded(seed, "prepared", language).permutation(len(prepared))[:count]
        rows = [dataclasses.replace(prepared[i], language=language) for i in order]
    if len(rows) < count:
        raise UserError(
            f"the rate asks for {count} rows in {language!r}, and {len(rows)} are about the "
            f"{trigger.kind}; lower the rate"
        )
    return rows


def respond(row: Example, target: Target, seed: int) -> str:
    """The target behaviour as a response to the row.

    Raises:
        UserError: there is no refusal in the language asked for, or nothing to put a prefix to.
    """
    if target.kind == "fixed":
        return target.text
    if target.kind == "prefix":
        if not row.response.strip():
            raise UserError(f"row {row.id!r} has no response to put a prefix before")
        return f"{target.text} {row.response}"
    language = row.language if target.kind == "refusal" else "en"
    texts = target.refusals.get(language, ())
    if not texts:
        raise UserError(f"target {target.kind!r} has no refusal in language {language!r}")
    return texts[int(seeded(seed, "refusal", row.language, row.id).integers(len(texts)))]
