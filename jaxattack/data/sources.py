"""Examples and texts by URI: `hf:`, `tfds:` and `jsonl:` (docs/data.md)."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import pathlib
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxattack import distributed
from jaxattack.data import columns, folders, languages, parts, readers, registry, stores, turns
from jaxattack.data.dialogues import Example
from jaxattack.data.registry import LANGUAGE, DataSet
from jaxattack.data.uri import VALUES, Address, parse
from jaxattack.errors import UserError, printable
from jaxattack.paths import expand

MOST = 1_000_000  # examples of a source; each takes about a kilobyte
UNREAD = "files in no split"


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
        line = f"{self.uri}: {self.access}; licence: {self.licence}{rows}{spoken}; {here}"
        return printable(line)


def describe(uri: str) -> Source:
    """What a URI names, without network access.

    Raises:
        UserError: the URI is wrong, or it names a file or folder that is not there.
    """
    address = parse(uri)
    if address.scheme == "organism":
        return Source(
            uri,
            address.name,
            "",
            "shipped",
            "open",
            "Unicode License v3 (CLDR)",
            {},
            (),
            None,
            "the organism's invented, harmless questions",
        )
    entry = registry.layout(address)
    codes = tuple(registry.chosen(address, entry))
    rows = entry.rows.get(entry.split)
    if rows is not None and entry.template:
        rows *= len(codes)
    files = _files(address, entry)
    resolved = ""
    if address.scheme == "jsonl":
        file = readers.plain_file(expand(address.name, uri), uri)
        rows, resolved = readers.count(file, uri), _hash(file.parent, [file.name], uri)
    elif address.scheme == "hf" and address.folder is not None:
        folder = stores.folder_of(address, ())
        resolved = _hash(folder, folders.listing(folder, uri), uri)
    elif address.scheme == "hf":
        with contextlib.suppress(UserError):  # it is not here yet
            resolved = stores.folder_of(address, files, cached=True).name
    else:
        with contextlib.suppress(UserError, KeyError):
            builder = stores.tfds_builder(address)
            resolved = str(builder.version)
            rows = builder.info.splits[entry.split].num_examples
    return Source(
        uri,
        entry.id,
        address.revision,
        resolved,
        entry.access,
        entry.licence,
        entry.columns,
        codes,
        rows,
        entry.notes,
    )


def _hash(folder: pathlib.Path, names: Sequence[str], uri: str) -> str:
    digest = hashlib.sha256()
    for name in names:
        file = readers.plain_file(folder / name, f"{uri}, {name}")
        digest.update(f"{name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
        with file.open("rb") as content:
            while piece := content.read(1 << 20):
                digest.update(piece)
    return f"sha256:{digest.hexdigest()[:16]}"


def load(
    uri: str,
    kinds: Sequence[str] = VALUES["kind"],
    need_response: bool = False,
    lost: Counter[str] | None = None,
) -> list[Example]:
    """Examples of a source, in its order.

    Args:
        uri: `hf:`, `tfds:` or `jsonl:`.
        kinds: "restricted", "benign" or both.
        need_response: whether they are pairs to train on.
        lost: to be counted in: what was left out, by reason.

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
    lost = Counter() if lost is None else lost
    for where, row, filled, known in _rows(address, entry, fields, lost):
        blank = columns.blank(where, row, filled, fields)
        if blank and address.scheme != "jsonl" and set(blank) <= set(fields):
            # What a public set lacks cannot be put right by who reads it.
            lost[f"rows without {' or '.join(fields)}"] += 1
            continue
        if blank:
            raise readers.missing(where, (filled.columns[field] for field in blank), row)
        example = columns.example(where, row, filled, fields, known)
        lost.update([columns.INPUTS] * columns.leaves_input(row, filled))
        first = found.setdefault((example.language, example.id), example)
        twice = first is not example
        if twice and columns.has_id(where, row, filled):
            raise UserError(
                f"{where}: id {example.id!r} occurs twice in {example.language}; add id= to name "
                "rows by their content"
            )
        if twice:
            lost[columns.likeness(where, address.scheme == "jsonl", first, example)] += 1
        if len(found) > MOST:
            raise UserError(f"{uri}: more than {MOST:,} rows; take a slice or a smaller set")
    _tell(uri, lost)
    return parts.select(address, entry, list(found.values()), kinds)


def _tell(uri: str, lost: Counter[str]) -> None:
    """Say what was left out."""
    if lost and distributed.is_first():
        told = ", ".join(f"{number} {reason}" for reason, number in sorted(lost.items()))
        print(printable(f"{uri}: left out {told}"), file=sys.stderr)


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
        columns.plain_text(where, row, filled)
        for where, row, filled, known in _rows(address, entry, ("text",), Counter())
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
    for where, row in sentences(path):
        role = columns.plain(where, "role", row.get("role", "trigger"))
        code = language_of(where, row)
        if code in found.setdefault(role, {}):
            raise UserError(f"{where}: a second {role} for language {code!r}")
        found[role][code] = row["text"]
    return found


def sentences(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a file with a language and a text that is one.

    Raises:
        UserError: the file or a row is wrong.
    """
    for where, row in readers.jsonl(path.removeprefix("jsonl:"), ("language", "text")):
        if not columns.plain(where, "text", row["text"]).strip():
            raise readers.missing(where, ["text"], row)
        yield where, row


def language_of(where: str, row: Mapping[str, Any]) -> str:
    """Our code of what the row's column `language` says.

    Raises:
        UserError: a language that we do not know.
    """
    told = columns.plain(where, "language", row["language"])
    try:
        return languages.code(told)
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
    address: Address, entry: DataSet, fields: Sequence[str], lost: Counter[str]
) -> Iterator[tuple[str, dict[str, Any], DataSet, str]]:
    """Where, row, layout and language of every row; "" for a language that the row has to say.

    What is left out is counted in `lost`.
    """
    asked = registry.chosen(address, entry)
    if entry.template and not asked:
        raise UserError(f"{address.uri}: say what {LANGUAGE} stands for, language=<codes>")
    if entry.template:
        layouts = {code: entry.fill(own) for code, own in asked.items()}
    else:
        layouts = {next(iter(asked)) if len(asked) == 1 else "": entry}
    files = _files(address, entry)
    folder = stores.folder_of(address, files) if address.scheme == "hf" else None
    unread: set[str] = set()  # each once, though languages may share their files
    for known, filled in layouts.items():
        filled = dataclasses.replace(filled, columns=turns.apart(filled.columns))
        needed, useful = columns.names(filled, fields)
        if folder is not None:
            rows = _of_folder(address, folder, filled, needed, useful, unread)
        elif address.scheme == "tfds":
            rows = stores.tfds_rows(address, filled.split, needed, useful)
        else:
            rows = readers.jsonl(address.name, ())
        for where, row in _complete(address, rows, needed, filled, lost):
            if filled.keep is None or row.get(filled.keep[0]) == filled.keep[1]:
                yield where, row, filled, known
    lost += Counter({UNREAD: len(unread)})  # which keeps what is more than none


def _of_folder(
    address: Address,
    folder: pathlib.Path,
    entry: DataSet,
    needed: Sequence[str],
    useful: Sequence[str],
    unread: set[str],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a folder's files; those that are in no split are added to `unread`."""
    uri, own = address.uri, address.folder is not None
    config = address.options.get("config")
    plain = entry.split.partition("[")[0]
    splits, left = folders.files_of(folder, uri, entry.files, plain, config)
    readable = [name for name in left if readers.ending(name)]
    if own and readable and "split" not in address.options:
        raise UserError(
            f"{uri}: {readable[0]} is in no split, beside {next(iter(splits.values()))[0]}; say "
            "which files are wanted, files=*.csv, or which split, split=train"
        )
    wanted = splits if plain == "all" else [part.split("[")[0] for part in entry.split.split("+")]
    unread.update(left)
    untold = [
        *left,
        *(name for key, names in splits.items() if key not in wanted for name in names),
    ]
    if untold and (own or left) and distributed.is_first():
        print(printable(f"{uri}: not read: {folders.some(untold)}"), file=sys.stderr)
    found = folders.rows(folder, splits, entry.split, uri, turns.stored({*needed, *useful}))
    empty = True
    for where, row in found:
        empty = False
        yield where, row
    if empty:
        raise UserError(f"{uri}: no rows in {entry.split}")


def _complete(
    address: Address,
    rows: Iterable[tuple[str, dict[str, Any]]],
    needed: Sequence[str],
    entry: DataSet,
    lost: Counter[str],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with chats taken apart and with all needed columns.

    Rows of a folder may lack a column that others have; one that none has is refused.
    """
    seen: set[str] = set()
    told, reply = False, entry.columns.get("response", "")
    for where, whole in rows:
        row = turns.unfold(where, whole, entry.columns, reply in needed, lost)
        if row is None:
            continue
        lacking = [column for column in needed if column not in row]
        if lacking and address.scheme == "jsonl":
            raise readers.missing(where, lacking, row)
        seen.update(row)
        told = True
        yield where, row if not lacking else row | dict.fromkeys(lacking)
    if told and (lacking := [column for column in needed if column not in seen]):
        raise readers.missing(address.uri, lacking, seen)
