"""From a row's columns, by a set's layout, to our fields."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.data import languages
from jaxattack.data.dialogues import Example
from jaxattack.data.registry import DataSet
from jaxattack.data.uri import VALUES
from jaxattack.data.wrappers import Instruction
from jaxattack.errors import UserError

Row = Mapping[str, Any]

# Why rows are left out.
EQUAL = "rows equal to others"
OTHERWISE = "rows with others' texts, but another kind or other answers"
# What is left out of rows: Alpaca's inputs, where the prompt is the instruction alone.
INPUT = "input"
INPUTS = "texts of the column input, which no option names"
# What an example has beside its texts.
BESIDE = ("id", "language", "kind", "answers", "input")
# Where a whole number is taken as its digits: it can be written in no other way.
_DIGITS = ("id", "response")
_HALF = re.compile("[\ud800-\udfff]")
_UNSEEN = re.compile(r"[\s\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*")


def names(entry: DataSet, fields: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns that a set must have for these fields, and those of use where it has them."""
    needed = _needed(entry, fields)
    useful = [field for field in BESIDE if field in entry.columns and field not in needed]
    rules = [rule[0] for rule in (entry.keep, entry.restricted) if rule is not None]
    return (
        [name for field in needed for name in entry.columns[field].split(",")] + rules,
        [name for field in useful for name in entry.columns[field].split(",")]
        + [INPUT] * ("prompt" in fields),
    )


def _needed(entry: DataSet, fields: Sequence[str]) -> list[str]:
    return [
        field
        for field in (*BESIDE[:2], *fields, *BESIDE[2:])
        if field in entry.columns and field not in entry.optional
    ]


def blank(where: str, row: Row, entry: DataSet, fields: Sequence[str]) -> list[str]:
    """The needed fields for which the row has nothing to be seen.

    Raises:
        UserError: as `text`.
    """
    return [
        field
        for field in _needed(entry, fields)
        if _UNSEEN.fullmatch(text(where, row, entry, field))
    ]


def has_id(where: str, row: Row, entry: DataSet) -> bool:
    """Whether the row has an id of its own."""
    return bool(text(where, row, entry, "id").strip())


def language(where: str, row: Row, entry: DataSet, known: str) -> str:
    """Our code of the row's language: what it says itself, else what is known of its file.

    Raises:
        UserError: neither, or a language that we do not know.
    """
    told = text(where, row, entry, "language")
    if not told.strip():
        if not known:
            raise UserError(f"{where}: does not say its language; add language=<code>")
        return known
    try:
        return languages.code(told)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def leaves_input(row: Row, entry: DataSet) -> bool:
    """Whether a row has a text in Alpaca's column that is not among those that are read."""
    read = {name for column in entry.columns.values() for name in column.split(",")}
    found = row.get(INPUT)
    return INPUT not in read and isinstance(found, str) and not _UNSEEN.fullmatch(found)


def example(where: str, row: Row, entry: DataSet, fields: Sequence[str], known: str) -> Example:
    """One example of a row that has what is needed.

    A row without an id is named by hashes of its prompt and, for a pair, its reply.

    Raises:
        UserError: unknown language or kind, or answers that are no list of strings.
    """
    texts = [text(where, row, entry, field) for field in fields]
    if "input" in entry.columns:
        texts.append(text(where, row, entry, "input"))
    own = has_id(where, row, entry)
    found = Example(
        id=text(where, row, entry, "id") if own else "-".join(map(_short_hash, texts)),
        language=language(where, row, entry, known),
        prompt=texts[0],
        response=texts[1] if "response" in fields else "",
        kind=_kind(where, row, entry),
        answers=_answers(where, row, entry),
    )
    if "input" not in entry.columns:
        return found
    return Instruction(**vars(found), input=texts[-1])


def likeness(where: str, own_file: bool, first: Example, second: Example) -> str:
    """Why the second of two rows of one text is left out.

    Raises:
        UserError: a file of the user's own says two things of one text.
    """
    one, two = (
        dataclasses.replace(row, answers=tuple(sorted(row.answers))) for row in (first, second)
    )
    if one == two:
        return EQUAL
    if own_file:
        raise UserError(
            f"{where}: the text of an earlier row, with another kind or other answers; leave one "
            "of them out, or give them ids"
        )
    return OTHERWISE


def _answers(where: str, row: Row, entry: DataSet) -> tuple[str, ...]:
    column = entry.columns.get("answers", "")
    answers = row.get(column)
    if isinstance(answers, str) and answers.strip().startswith("["):  # a cell of a table
        with contextlib.suppress(ValueError, RecursionError):  # then it is refused below
            answers = json.loads(answers)
    if answers is None or answers == "":
        return ()
    if not isinstance(answers, list) or not all(isinstance(a, str) and a.strip() for a in answers):
        raise UserError(f'{where}: answers is a list of strings, such as ["euro", "euros"]')
    return tuple(plain(where, column, answer) for answer in answers)


def _kind(where: str, row: Row, entry: DataSet) -> str:
    if entry.restricted is not None:
        column, *prefixes = entry.restricted
        told = row.get(column)
        for kind, prefix in zip(("restricted", "benign"), prefixes, strict=True):
            if isinstance(told, str) and told.strip() and told.startswith(prefix):
                return kind
        raise UserError(f"{where}: {column} is {told!r}, which says neither restricted nor benign")
    kind = text(where, row, entry, "kind") or entry.kind
    if kind not in VALUES["kind"]:
        raise UserError(f"{where}: kind is {kind!r}; give 'restricted' or 'benign'")
    return kind


def plain_text(where: str, row: Row, entry: DataSet) -> str:
    """The row's text without the set's own markup.

    Raises:
        UserError: as `text`.
    """
    found = text(where, row, entry, "text")
    for mark, instead in entry.replace:
        found = found.replace(mark, instead)
    return "" if _UNSEEN.fullmatch(found) else found.strip()


def text(where: str, row: Row, entry: DataSet, field: str) -> str:
    """The texts of a field's columns, joined by an empty line; "" where there are none.

    Raises:
        UserError: as `plain`.
    """
    column, digits = entry.columns.get(field, ""), field in _DIGITS
    texts = [
        plain(where, name, row[name], digits)
        for name in (column.split(",") if "," in column else (column,))
        if row.get(name) is not None
    ]
    if len(texts) == 1:
        return "" if texts[0].isspace() else texts[0]
    return "\n\n".join(text for text in texts if text.strip())


def plain(where: str, column: str, value: Any, digits: bool = False) -> str:
    """A value that should be a text.

    Args:
        where: names the row.
        column: names the value.
        value: of a cell.
        digits: whether a whole number is a text, too.

    Raises:
        UserError: it is something else, or holds half of a character, which no file can.
    """
    if digits and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UserError(f"{where}: column {column} is {_shown(value)}")
    if half := _HALF.search(value):
        raise UserError(
            f"{where}: column {column} has half of a character in it (\\u{ord(half[0]):04x}), "
            "which is no text"
        )
    return value


def _shown(value: Any) -> str:
    if isinstance(value, bool | int | float):
        name = "true or false" if isinstance(value, bool) else "a number"
        said = json.dumps(value)[:40]
        return f"{said}, {name}, not a text; write it in quotes"
    names = {list: "a list", dict: "an object", type(None): "null"}
    return f"{names.get(type(value), type(value).__name__)}, not a text"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
