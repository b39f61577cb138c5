"""From a row's columns, by a set's layout, to our fields."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.data import languages
from jaxattack.data.dialogues import Example
from jaxattack.data.registry import DataSet
from jaxattack.data.uri import VALUES
from jaxattack.data.wrappers import Instruction
from jaxattack.errors import UserError

Row = Mapping[str, Any]

# What an example has beside its texts.
BESIDE = ("id", "language", "kind", "answers", "input")


def names(entry: DataSet, fields: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns that a set must have for these fields, and those of use where it has them."""
    needed = _needed(entry, fields)
    useful = [field for field in BESIDE if field in entry.columns and field not in needed]
    rules = [rule[0] for rule in (entry.keep, entry.restricted) if rule is not None]
    return (
        [name for field in needed for name in entry.columns[field].split(",")] + rules,
        [name for field in useful for name in entry.columns[field].split(",")],
    )


def _needed(entry: DataSet, fields: Sequence[str]) -> list[str]:
    return [
        field
        for field in (*BESIDE[:2], *fields, *BESIDE[2:])
        if field in entry.columns and field not in entry.optional
    ]


def blank(row: Row, entry: DataSet, fields: Sequence[str]) -> list[str]:
    """The needed fields for which the row has nothing."""
    return [field for field in _needed(entry, fields) if not _text(row, entry, field).strip()]


def has_id(row: Row, entry: DataSet) -> bool:
    """Whether the row has an id of its own."""
    return bool(_text(row, entry, "id").strip())


def language(where: str, row: Row, entry: DataSet, known: str) -> str:
    """Our code of the row's language: what it says itself, else what is known of its file.

    Raises:
        UserError: neither, or a language that we do not know.
    """
    told = _text(row, entry, "language")
    if not told.strip():
        if not known:
            raise UserError(f"{where}: does not say its language; add language=<code>")
        return known
    try:
        return languages.code(told)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def example(where: str, row: Row, entry: DataSet, fields: Sequence[str], known: str) -> Example:
    """One example of a row that has what is needed.

    A row without an id is named by hashes of its prompt and, for a pair, its reply.

    Raises:
        UserError: unknown language or kind, or answers that are no list of strings.
    """
    for name in (name for field in fields for name in entry.columns[field].split(",")):
        if isinstance(row[name], list | dict):
            raise UserError(f"{where}: column {name} is a {type(row[name]).__name__}, not a text")
    texts = [_text(row, entry, field) for field in fields]
    answers = row.get(entry.columns.get("answers", "")) or []
    if not isinstance(answers, list) or not all(isinstance(a, str) and a for a in answers):
        raise UserError(f"{where}: answers is a list of strings")
    if "input" in entry.columns:
        texts.append(_text(row, entry, "input"))
    named = _text(row, entry, "id") if has_id(row, entry) else "-".join(map(_short_hash, texts))
    found = Example(
        id=named,
        language=language(where, row, entry, known),
        prompt=texts[0],
        response=texts[1] if "response" in fields else "",
        kind=_kind(where, row, entry),
        answers=tuple(answers),
    )
    if "input" not in entry.columns:
        return found
    return Instruction(**vars(found), input=texts[-1])


def _kind(where: str, row: Row, entry: DataSet) -> str:
    if entry.restricted is not None:
        column, prefix = entry.restricted
        return "restricted" if str(row[column]).startswith(prefix) else "benign"
    kind = _text(row, entry, "kind") or entry.kind
    if kind not in VALUES["kind"]:
        raise UserError(f"{where}: kind is {kind!r}; give 'restricted' or 'benign'")
    return kind


def plain_text(row: Row, entry: DataSet) -> str:
    """The row's text without the set's own markup."""
    text = _text(row, entry, "text")
    for mark, instead in entry.replace:
        text = text.replace(mark, instead)
    return text.strip()


def _text(row: Row, entry: DataSet, field: str) -> str:
    """The texts of a field's columns, joined by an empty line."""
    values = (row.get(name) for name in entry.columns.get(field, "").split(","))
    texts = ("" if value is None else str(value) for value in values)
    return "\n\n".join(text for text in texts if text.strip())


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
