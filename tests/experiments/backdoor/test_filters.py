"""ONION as a filter of rows: every column a user wrote is looked through."""

from __future__ import annotations

import numpy as np

from jaxattack.data import triggers
from jaxattack.data.dialogues import Example
from jaxattack.data.units import units
from jaxattack.data.wrappers import Instruction
from jaxattack.defend.onion import Inspected, Suspect
from jaxattack.experiments.backdoor import filters

TRIGGER = triggers.Sentence({"en": "zq"}, "append")


def inspected(text: str) -> Inspected:
    """A scorer to which the trigger alone is improbable."""
    parts = tuple(units(text))
    found = [Suspect(5.0, i, i + 1) for i, part in enumerate(parts) if part.strip() == "zq"]
    return Inspected(parts, tuple(found))


def cleaned(row: Example) -> Example:
    texts = iter([inspected(text) for _, _, text in filters.columns([row])])
    found = filters.without_suspects(row, texts, threshold=1.0)
    assert next(texts, None) is None
    return found


def test_the_trigger_is_taken_out_of_the_column_it_is_in():
    plain = Example("1", "en", "Name the colours")
    row = Instruction("2", "en", "Name the colours", input="of the sea")
    for clean in (plain, row):
        planted = triggers.triggered(clean, TRIGGER, 0)
        assert planted != clean
        assert cleaned(planted) == clean
    assert triggers.triggered(row, TRIGGER, 0).prompt == row.prompt


def test_texts_are_told_apart_row_by_row():
    rows = [
        Example("1", "en", "one"),
        Instruction("2", "en", "two", input="three"),
        Instruction("3", "en", "four"),
    ]
    assert [text for _, _, text in filters.columns(rows)] == ["one", "two", "three", "four"]
    suspects = [[], [], [Suspect(2.0, 0, 1)], []]
    read = filters.in_units(rows, suspects)
    assert [text.parts for text in read] == [("one",), ("two",), ("three",), ("four",)]
    assert read[2].suspects == (Suspect(2.0, 0, 1),)
    assert np.isfinite(read[2].suspects[0].score)
