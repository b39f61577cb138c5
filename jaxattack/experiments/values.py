"""What settings may be: bounds that several have, and what is wrong with a text, in words."""

from __future__ import annotations

import datetime
import json
import re
from typing import Any

from jaxattack.experiments.declared import spelled

DTYPES = ("float32", "bfloat16")
REMAT = ("none", "full", "dots")

# Bounds, as keywords of `declared.setting`.
COUNT: dict[str, Any] = {"at_least": 1, "at_most": 1_000_000}
EPOCHS: dict[str, Any] = {"at_least": 1, "at_most": 10_000}
ROWS: dict[str, Any] = {"at_least": 1, "at_most": 65_536}
TOKENS: dict[str, Any] = {"at_least": 1, "at_most": 1_048_576, "unit": "tokens"}
RATE: dict[str, Any] = {"above": 0, "at_most": 1e38}
SHARE: dict[str, Any] = {"at_least": 0, "at_most": 1, "named": True}
SOME: dict[str, Any] = {"above": 0, "at_most": 1, "named": True}  # a mask of nothing says nothing
SEED: dict[str, Any] = {"at_least": 0, "at_most": 2**31 - 1}


def languages(named: tuple[str, ...]) -> str:
    """Refuses `en,th` and `en th`, which arrive as one language of that name."""
    for language in named:
        if not language or re.search(r"[\s,/+]", language):
            return f'{language!r} is no language; write "{spelled(language)}"'
    return ""


def mixtures(named: tuple[str, ...]) -> str:
    """Refuses what is no `en+th` of different languages."""
    for mixed in named:
        parts = mixed.split("+")
        if len(parts) < 2 or languages(tuple(parts)):
            return f"{mixed!r} is no mixture; write it as 'en+th'"
        if len(set(parts)) < len(parts):
            return f"{mixed!r} names a language twice"
    return ""


def languages_or_mixtures(named: tuple[str, ...]) -> str:
    """Refuses what is neither a language nor a mixture of languages."""
    return languages(tuple(name for name in named if "+" not in name)) or mixtures(
        tuple(name for name in named if "+" in name)
    )


def expression(text: str) -> str:
    """Refuses what is no regular expression."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        return f"it is no regular expression ({error})"
    return ""


def json_object(text: str) -> str:
    """Refuses what is no JSON object; nothing stands for an empty one."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        return f"it is no JSON ({error})"
    return "" if isinstance(value, dict) else "it is no JSON object, as '{\"name\": true}' is"


def day(text: str) -> str:
    """Refuses what is no day; nothing stands for none."""
    try:
        datetime.date.fromisoformat(text or "2024-07-26")
    except ValueError:
        return "it is no day; write it as 2024-07-26"
    return ""


def source(uris: str) -> str:
    """Refuses what names no data."""
    return "" if uris.strip() else "name some, by URI (docs/data.md)"


def mesh_sizes(sizes: tuple[int, ...]) -> str:
    """Refuses what are no three sizes, one of them perhaps -1."""
    if len(sizes) != 3 or any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
        return "give three sizes (data, fsdp, tensor), one of them may be -1"
    return ""
