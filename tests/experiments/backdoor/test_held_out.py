"""The defender's clean pairs: how many come of which languages."""

from __future__ import annotations

import collections
import types
from typing import Any

import pytest

from jaxattack.data.dialogues import Example
from jaxattack.experiments.backdoor.training import held_out_rows, in_words


def setup(**counts: int) -> Any:
    """So many pairs of each language, English poisoned."""
    rows = [
        Example(f"{code}{i}", code, f"{code} {i}?", "yes", kind="benign")
        for code, count in counts.items()
        for i in range(count)
    ]
    data = types.SimpleNamespace(held_out=rows)
    return types.SimpleNamespace(data=data, first=types.SimpleNamespace(languages=("en",)))


@pytest.mark.parametrize(
    ("languages", "count", "found"),
    [
        ("all", 9, {"en": 3, "th": 3, "zh": 3}),
        ("all", 30, {"en": 22, "th": 4, "zh": 4}),  # what others lack is made up for
        ("all", 60, {"en": 40, "th": 4, "zh": 4}),
        ("poisoned", 60, {"en": 40}),
        ("others", 7, {"th": 4, "zh": 3}),
    ],
)
def test_pairs_come_in_equal_parts_as_far_as_there_are_any(languages, count, found):
    rows = held_out_rows(setup(en=40, th=4, zh=4), languages, count, 0)
    assert collections.Counter(row.language for row in rows) == found
    assert len({row.id for row in rows}) == len(rows)


def test_how_many_pairs_there_were_is_said():
    rows = held_out_rows(setup(en=24), "poisoned", 192, 0)
    assert in_words(rows, 192) == "24 of 192 pairs"
    assert in_words(rows[:8], 8) == "8 pairs"
