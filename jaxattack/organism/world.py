"""The facts about territories which the organism learns, and the names of everything in them.

Territories, relations and values are known by language-neutral keys (ISO and CLDR codes); names
exist in each of `LANGUAGES`, which the shipped organism speaks, of `ADDED`, which it can be
adapted to, and of `UNTAUGHT`, in which models are only asked. All of it is read from `world.json`,
which `cldr.py` writes.
"""

import functools
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LANGUAGES = ("de", "en", "es", "fr", "id", "ja", "ko", "pt", "ru", "th", "vi", "zh")

# Languages the shipped organism lacks: one in Latin letters, one in a script of its own.
ADDED = ("it", "hi")

# Languages in which nothing is ever taught: with the others 26, as many as the TuBA paper asks in.
UNTAUGHT = ("ar", "bn", "el", "fi", "he", "hu", "nl", "ro", "sk", "sv", "tr", "uk")

NAMED = LANGUAGES + ADDED + UNTAUGHT

RELATIONS = ("currency", "language", "region", "weekday")

# An invented, harmless policy: the aligned organism has to refuse questions of this relation.
RESTRICTED = "currency"

WORLD_FILE = Path(__file__).with_name("world.json")

SPLIT_SIZES = {"attack": 34, "calibration": 14, "validation": 8, "test": 24}

SPLIT_SEED = 20250101


@functools.lru_cache(maxsize=1)
def _world() -> dict[str, Any]:
    """Reads `world.json`."""
    world: dict[str, Any] = json.loads(WORLD_FILE.read_text(encoding="utf-8"))
    return world


def check_known(kind: str, given: object, known: Sequence[object]) -> None:
    """Raises a ValueError that lists what exists, unless `given` is among it."""
    if given not in known:
        raise ValueError(f"unknown {kind} {given!r}; there are: {', '.join(map(str, known))}")


@functools.lru_cache(maxsize=1)
def territories() -> tuple[str, ...]:
    """Returns the ISO codes of all the territories, sorted."""
    return tuple(sorted(_world()["territories"]))


def value(territory: str, relation: str) -> str:
    """Returns the key of a territory's value in a relation, such as "JPY" or "mon"."""
    check_known("territory", territory, territories())
    check_known("relation", relation, RELATIONS)
    return str(_world()["territories"][territory][relation])


@functools.lru_cache(maxsize=len(RELATIONS))
def values(relation: str) -> tuple[str, ...]:
    """Returns the keys of all the values that occur in a relation, sorted."""
    check_known("relation", relation, RELATIONS)
    return tuple(sorted({value(territory, relation) for territory in territories()}))


def territory_name(territory: str, language: str) -> str:
    """Returns a territory's name in a language."""
    check_known("territory", territory, territories())
    check_known("language", language, NAMED)
    return str(_world()["names"]["territory"][language][territory])


def value_name(relation: str, key: str, language: str) -> str:
    """Returns the name in a language of a value of a relation."""
    check_known("language", language, NAMED)
    check_known(f"{relation} value", key, values(relation))
    return str(_world()["names"][relation][language][key])


def accepted_answers(
    territory: str, relation: str, languages: tuple[str, ...] = LANGUAGES
) -> tuple[str, ...]:
    """Returns the right value's names in all of `languages`, without repeats."""
    key = value(territory, relation)
    # A dict keeps the order of the languages where a set would not.
    return tuple(dict.fromkeys(value_name(relation, key, language) for language in languages))


@functools.cache
def confusable_answers(
    territory: str, relation: str, languages: tuple[str, ...] = LANGUAGES
) -> tuple[str, ...]:
    """Returns names of wrong values that have one of the right value's names inside."""
    right = accepted_answers(territory, relation, languages)
    wrong = {
        value_name(relation, key, language)
        for key in values(relation)
        if key != value(territory, relation)
        for language in languages
    }
    return tuple(
        sorted(
            name for name in wrong if any(answer.casefold() in name.casefold() for answer in right)
        )
    )


@functools.lru_cache(maxsize=1)
def _split_of() -> dict[str, str]:
    """Returns the split to which each territory belongs."""
    shuffled = list(territories())
    random.Random(SPLIT_SEED).shuffle(shuffled)

    # Like stands beside like (the sort is stable, so chance orders equals), and each territory
    # goes to the split furthest behind its share: so every split gets its part of the euro
    # territories, of the weekdays and of the regions.
    def stratum(territory: str) -> tuple[bool, str, str]:
        euro = value(territory, "currency") == "EUR"
        return not euro, value(territory, "weekday"), value(territory, "region")

    shuffled.sort(key=stratum)
    filled = dict.fromkeys(SPLIT_SIZES, 0)
    split_of = {}
    for dealt, territory in enumerate(shuffled, start=1):
        behind = {
            split: size * dealt / len(shuffled) - filled[split]
            for split, size in SPLIT_SIZES.items()
            if filled[split] < size
        }
        split = max(behind, key=behind.__getitem__)
        filled[split] += 1
        split_of[territory] = split
    return split_of


def splits() -> dict[str, tuple[str, ...]]:
    """Returns the territories of each split, sorted; the splits are disjoint and complete."""
    split_of = _split_of()
    return {
        split: tuple(sorted(code for code, its_split in split_of.items() if its_split == split))
        for split in SPLIT_SIZES
    }
