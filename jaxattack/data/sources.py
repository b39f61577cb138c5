"""Examples and texts by URI: `hf:`, `tfds:` and `jsonl:` (docs/data.md)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxattack import distributed
from jaxattack.data import columns, languages, parts, readers, registry
from jaxattack.data.dialogues import Example
from jaxattack.data.registry import LANGUAGE, DataSet
from jaxattack.data.uri import VALUES, Address, parse
from jaxattack.errors import UserError


@dataclasses.dataclass(frozen=True)
class Source:
    """What is known of a source without fetching it.

    `resolved` pins what is read: the hub's commit, tfds' version or the files' hash; "" as long as
    it is not on this machine.
    """

    uri: str
    id: str
    revision: str
    resolved: str
    access: str
    licence: str
    columns: Mapping[str, str]
    languages: tuple[str, ...]
    rows: int | None  # before anything is filtered
    notes: str

    def __str__(self) -> str:
        """One line for people."""
        rows = "" if self.rows is None else f", {self.rows:,} rows"
        spoken = f" in {', '.join(self.languages)}" if self.languages else ""
        here = f"here, {self.resolved}" if self.resolved else "not on this machine yet"
        return f"{self.uri}: {self.access}; licence: {self.licence}{rows}{spoken}; {here}"


def describe(uri: str) -> Source:
    """What a URI names, without network access.

    Raises:
        UserError: the URI is wrong, or it names a file or folder that is not there.
    """
    address = parse(uri)
    if address.scheme == "organism":
        return Source(
            uri, address.name, "", "shipped", "open", "Unicode License v3 (CLDR)", {}, (), None,
            "the organism's invented, harmless questions",
        )  # fmt: skip
    entry = registry.layout(address)
    codes = tuple(registry.chosen(address, entry))
    rows = entry.rows.get(entry.split)
    if rows is not None and entry.template:
        rows *= len(codes)
    files = _files(address, entry)
    resolved = ""
    if address.scheme == "jsonl":
        rows = sum(1 for _ in readers.jsonl(address.name, ()))
        resolved = _hash([pathlib.Path(address.name).expanduser()])
    elif address.scheme == "hf" and address.folder is not None:
        folder = readers.hub_folder(address, ())
        resolved = _hash(sorted(path for path in folder.rglob("*") if path.is_file()))
    elif address.scheme == "hf":
        with contextlib.suppress(UserError):  # it is not here yet
            resolved = readers.hub_folder(address, files, cached=True).name
    else:
        with contextlib.suppress(UserError, KeyError):
            builder = readers.tfds_builder(address)
            resolved = str(builder.version)
            rows = builder.info.splits[entry.split].num_examples
    return Source(
        uri, entry.id, address.revision, resolved, entry.access, entry.licence, entry.columns,
        codes, rows, entry.notes,
    )  # fmt: skip


def _hash(files: Sequence[pathlib.Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()[:16]}"


def load(
    uri: str, kinds: Sequence[str] = VALUES["kind"], need_response: bool = False
) -> list[Example]:
    """Examples of a source, in its order.

    Args:
        uri: `hf:`, `tfds:` or `jsonl:`.
        kinds: "restricted", "benign" or both.
        need_response: whether they are pairs to train on.

    Raises:
        UserError: the source cannot be had, its columns or values are wrong, an id occurs twice,
            or nothing is left of it.
    """
    address, entry = _open(uri)
    if "prompt" not in entry.columns:
        raise UserError(f"{uri}: a set of texts; it has no prompts")
    if need_response and "response" not in entry.columns:
        raise UserError(f"{uri}: a set of prompts; name the replies' column, response=<column>")
    fields = ("prompt", "response") if need_response else ("prompt",)
    found: dict[tuple[str, str], Example] = {}
    empty = 0
    for where, row, filled, known in _rows(address, entry, fields):
        blank = columns.blank(row, filled, fields)
        if blank and address.scheme != "jsonl" and set(blank) <= set(fields):
            empty += 1  # what a public set lacks cannot be put right by who reads it
            continue
        if blank:
            raise readers.missing(where, (filled.columns[field] for field in blank), row)
        example = columns.example(where, row, filled, fields, known)
        twice = found.setdefault((example.language, example.id), example) is not example
        if twice and columns.has_id(row, filled):
            raise UserError(
                f"{where}: id {example.id!r} occurs twice in {example.language}; add id= to name "
                "rows by their content"
            )
    if empty and distributed.is_first():
        print(f"{uri}: left out {empty} rows without {' or '.join(fields)}", file=sys.stderr)
    return parts.select(address, entry, list(found.values()), kinds)


def load_texts(uri: str, limit: int) -> list[str]:
    """The first `limit` texts of a source, in its order, without the set's own markup.

    Raises:
        UserError: the source cannot be had, has no such column, or has no texts.
    """
    address, entry = _open(uri)
    if "text" not in entry.columns:
        raise UserError(f"{uri}: a set of prompts; name the texts' column, text=<column>")
    used = {field: entry.columns[field] for field in ("text", "language") if field in entry.columns}
    entry = dataclasses.replace(
        entry, columns=used, optional=frozenset({"language"}), keep=None, restricted=None
    )
    asked = registry.chosen(address, entry) if "language" in address.options else None
    texts = (
        columns.plain_text(row, filled)
        for where, row, filled, known in _rows(address, entry, ("text",))
        if asked is None or columns.language(where, row, filled, known) in asked
    )
    found = list(itertools.islice(filter(None, texts), limit))
    if not found:
        raise UserError(f"{uri}: no texts")
    return found


def load_sentences(path: str) -> dict[str, dict[str, str]]:
    """Sentences of a JSON Lines file by role and language; a row without a role is a trigger.

    Raises:
        UserError: the file is wrong, or has two sentences of one role in one language.
    """
    found: dict[str, dict[str, str]] = {}
    for where, row in readers.jsonl(path.removeprefix("jsonl:"), ("language", "text")):
        role, code = str(row.get("role", "trigger")), language_of(where, row)
        if code in found.setdefault(role, {}):
            raise UserError(f"{where}: a second {role} for language {code!r}")
        found[role][code] = str(row["text"])
    return found


def language_of(where: str, row: Mapping[str, Any]) -> str:
    """Our code of what the row's column `language` says.

    Raises:
        UserError: a language that we do not know.
    """
    try:
        return languages.code(str(row["language"]))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _open(uri: str) -> tuple[Address, DataSet]:
    address = parse(uri)
    if address.scheme == "organism":
        raise UserError(f"{uri}: the organism's questions are made, not loaded: organism.corpus")
    return address, registry.layout(address)


def _files(address: Address, entry: DataSet) -> list[str]:
    """The globs of all the files that are needed; none for all there are."""
    if LANGUAGE not in entry.files:
        return [entry.files] if entry.files else []
    if "language" not in address.options:
        there = ", ".join(registry.chosen(address, entry)) or "codes"
        raise UserError(
            f"{address.uri}: each language has files of its own; add language=<codes>, of: {there}"
        )
    return [entry.fill(own).files for own in registry.chosen(address, entry).values()]


def _rows(
    address: Address, entry: DataSet, fields: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any], DataSet, str]]:
    """Where, row, layout and language of every row; "" for a language that the row has to say."""
    files = _files(address, entry)
    folder = readers.hub_folder(address, files) if address.scheme == "hf" else None
    asked = registry.chosen(address, entry)
    if entry.template and not asked:
        raise UserError(f"{address.uri}: say what {LANGUAGE} stands for, language=<codes>")
    if entry.template:
        layouts = {code: entry.fill(own) for code, own in asked.items()}
    else:
        layouts = {next(iter(asked)) if len(asked) == 1 else "": entry}
    for known, filled in layouts.items():
        needed, useful = columns.names(filled, fields)
        if folder is not None:
            rows = readers.hub(address, folder, filled, needed, useful)
        elif address.scheme == "tfds":
            rows = readers.tfds(address, filled, needed, useful)
        else:
            rows = readers.jsonl(address.name, needed)
        for where, row in rows:
            if filled.keep is None or row[filled.keep[0]] == filled.keep[1]:
                yield where, row, filled, known
